"""The command ``fastconv demo``."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CommandResult
from numpy.typing import NDArray

import fastconv
from fastconv import _commands, _kernels
from fastconv.__main__ import main
from fastconv._commands.demo import largest_difference
from fastconv._commands.images import read_images
from fastconv.datasets import packaged_digits

COMMAND = [sys.executable, "-m", "fastconv", "demo"]
OPERATIONS = [
    "im2col 3x3, pad 1",
    "matrix product (*)",
    "max_pool2d 2x2",
    "max_pool2d_backward",
    "col2im 3x3, pad 1",
]

Demo = Callable[..., CommandResult]


@pytest.fixture
def demo(command: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch) -> Demo:
    """Run the command in this process; each operation once, unless `--repeats` comes later."""
    monkeypatch.setattr(_commands.demo, "PAUSE_SECONDS", 0)
    return partial(command, "demo", "--repeats", "1")


def assert_refused(result: CommandResult, *words: str) -> None:
    result.assert_refused("demo", *words)


def idx3(images: NDArray[np.uint8]) -> bytes:
    return b"\0\0\x08\x03" + np.array(images.shape, ">u4").tobytes() + images.tobytes()


def random_images(n: int = 5, h: int = 12, w: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, h, w), np.uint8)


# --- What it prints -------------------------------------------------------------------------


def test_digits() -> None:
    """The command does what it says, run as a user runs it."""
    options = ["--repeats", "1", "--threads", "2"]
    result = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"fastconv {fastconv.__version__} (CPU level {_kernels.level}, ")
    assert "threads: 2" in lines[0]
    assert lines[1].startswith("images:  1797 of 8 x 8 pixels, channels: 1: UCI handwritten digits")
    assert all(name in lines[2] for name in _commands.demo.FILTERS)
    head = next(i for i, line in enumerate(lines) if line.startswith("operation"))
    assert lines[head].split("  ")[0] == "operation"
    for line, operation in zip(lines[head + 2 :], OPERATIONS, strict=False):
        assert re.fullmatch(
            re.escape(operation) + r" +\([\d, ]+\) +\d+\.\d\d +\d+\.\d\d +\d+\.\dx +0", line
        )
    assert lines[-1].startswith("All 5 results are equal. ")
    assert max(map(len, lines)) <= 100


def test_table_of_mnist_size_fits_in_100_columns() -> None:
    shapes = [(47040000, 9), *[(60000, 6, 28, 28)] * 4]
    rows = [
        _commands.demo.Row(operation, shape, 123.4, 0.1, 0.0)
        for operation, shape in zip(OPERATIONS, shapes, strict=True)
    ]
    assert max(map(len, _commands.demo.as_table(rows).splitlines())) <= 100


def test_json_file(demo: Demo, tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    target.write_text("old")
    result = demo("--json", target, "--threads", "3", "--repeats", "2")
    assert result.code == 0, result
    assert "All 5 results are equal" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    report = json.loads(target.read_text())
    assert report["fastconv"] == fastconv.__version__
    assert report["cpu_level"] == _kernels.level
    assert report["threads"] == 3
    assert report["repeats"] == 2
    assert report["numpy"] == np.__version__
    assert report["images"]["shape"] == [1797, 1, 8, 8]
    assert report["images"]["paths"] == []
    assert report["equal"] is True
    assert [row["operation"] for row in report["rows"]] == OPERATIONS
    assert [row["shape"] for row in report["rows"]] == [
        [1797 * 64, 9],
        [1797, 6, 8, 8],
        [1797, 6, 4, 4],
        [1797, 6, 8, 8],
        [1797, 1, 8, 8],
    ]
    for row in report["rows"]:
        assert row["equal"] is True
        assert row["largest_difference"] == 0
        assert row["ratio"] == pytest.approx(row["numpy_ms"] / row["fastconv_ms"])


def test_json_on_standard_output_is_all_there_is(demo: Demo, tmp_path: Path) -> None:
    result = demo("--json", "-")
    assert json.loads(result.out)["equal"] is True
    assert "All 5 results are equal" in result.err


@pytest.mark.skipif(os.name != "posix", reason="there are no devices to write to")
def test_json_to_a_device_leaves_the_device(demo: Demo) -> None:
    assert demo("--json", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_json_through_a_link(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "results.json")
    assert demo("--json", tmp_path / "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real" / "results.json").read_text())["equal"] is True


# --- Images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_file_is_known_by_its_content(
    demo: Demo, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "images.txt"
    path.write_bytes(pack(idx3(random_images(5, 13, 9))))
    result = demo("--images", path, "--json", "-")
    assert result.code == 0, result
    report = json.loads(result.out)
    assert report["images"] == {
        "source": str(path),
        "paths": [str(path)],
        "shape": [5, 1, 13, 9],
    }
    assert report["rows"][2]["shape"] == [5, 6, 6, 4]


def test_several_paths_and_folders(demo: Demo, tmp_path: Path) -> None:
    images = random_images(7)
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "b").write_bytes(idx3(images[2:4]))
    (folder / "a").write_bytes(gzip.compress(idx3(images[:2])))
    (folder / "labels").write_bytes(b"\0\0\x08\x01\0\0\0\x01\x07")
    (folder / ".hidden").write_bytes(b"no image")
    (tmp_path / "c").write_bytes(idx3(images[4:]))
    read, skipped = read_images([str(folder), str(tmp_path / "c")])
    np.testing.assert_array_equal(read, images[:, np.newaxis])
    assert skipped == [str(folder / "labels")]
    result = demo("--images", folder, "--images", tmp_path / "c")
    assert result.code == 0, result
    assert "7 of 12 x 9 pixels" in result.out
    skipping = f"fastconv demo: skipped what is not an image: {folder / 'labels'}\n"
    assert result.err == skipping


def test_batches_do_not_change_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(7)[:, np.newaxis]
    whole = _commands.demo.compare_images(images, 1)
    monkeypatch.setattr(_commands.demo, "BATCH_BYTES", 3 * 12 * 9 * 9 * 4)
    batches = _commands.demo.compare_images(images, 1)
    assert [row.shape for row in batches] == [row.shape for row in whole]
    assert [row.difference for row in batches] == [0.0] * 5


@pytest.mark.exhaustive
def test_mnist(demo: Demo) -> None:
    folder = os.environ.get("FASTCONV_MNIST")
    if folder is None:
        pytest.skip("FASTCONV_MNIST does not name a folder with t10k-images-idx3-ubyte.gz")
    result = demo("--images", Path(folder, "t10k-images-idx3-ubyte.gz"), "--json", "-")
    assert result.code == 0, result
    report = json.loads(result.out)
    assert report["images"]["shape"] == [10000, 1, 28, 28]
    assert report["rows"][0]["shape"] == [7840000, 9]
    assert [row["equal"] for row in report["rows"]] == [True] * 5


def test_packaged_digits() -> None:
    images, labels = packaged_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == labels.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert images.sum(dtype=np.int64) == 561718
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    first = [0, 0, 5, 13, 9, 1, 0, 0]
    assert images[0, 0, 0].tolist() == first
    attribution = Path(fastconv.__file__).parent / "data" / "ATTRIBUTION.md"
    text = attribution.read_text(encoding="utf-8")
    for word in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "Changes"):
        assert word in text


def test_pictures(demo: Demo, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    gray = random_images(1)[0]
    colours = np.random.default_rng(2).integers(0, 256, (12, 9, 3), np.uint8)
    image.fromarray(gray).save(tmp_path / "a.png")
    image.fromarray(gray).convert("P").save(tmp_path / "b.gif")
    image.fromarray(colours).save(tmp_path / "c.tiff")
    (tmp_path / "notes.txt").write_text("no image")
    read, skipped = read_images([str(tmp_path)])
    np.testing.assert_array_equal(read[0], np.stack([gray] * 3))
    np.testing.assert_array_equal(read[1], np.stack([gray] * 3))
    np.testing.assert_array_equal(read[2], colours.transpose(2, 0, 1))
    assert skipped == [str(tmp_path / "notes.txt")]
    alone, _ = read_images([str(tmp_path / "a.png")])
    np.testing.assert_array_equal(alone, gray[np.newaxis, np.newaxis])
    result = demo("--images", tmp_path)
    assert result.code == 0, result
    assert "3 of 12 x 9 pixels, channels: 3" in result.out


@pytest.mark.parametrize("suffix", ["png", "pgm", "tiff"])
def test_pictures_of_16_bits(demo: Demo, tmp_path: Path, suffix: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(3).integers(0, 65536, (6, 8), np.uint16)
    path = tmp_path / f"deep.{suffix}"
    image.fromarray(pixels).save(path)
    read, _ = read_images([str(path)])
    np.testing.assert_array_equal(read[0, 0], pixels)
    assert demo("--images", path).code == 0


def test_damaged_pictures(demo: Demo, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    path = tmp_path / "damaged.png"
    image.fromarray(random_images(1, 64, 64)[0]).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    assert_refused(demo("--images", path), str(path), "truncated")
    image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tiff")
    assert_refused(demo("--images", tmp_path / "float.tiff"), "8 or 16 bits")


# --- Errors ---------------------------------------------------------------------------------

GOOD = idx3(random_images())
BAD_FILES = {
    "pixels missing": (
        GOOD[:-1],
        "truncated: the header announces 5 images of 12 x 9 = 540 bytes, but 539 follow",
    ),
    "header only": (GOOD[:16], "truncated", "but 0 follow"),
    "header truncated": (GOOD[:9], "truncated: its header has 9 of 16 bytes"),
    "too long": (GOOD + b"\0", "wrong size", "540 bytes, but more follow"),
    "absurd sizes": (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "truncated", "4294967295 x 4294967295"),
    "no images": (b"\0\0\x08\x03" + b"\0" * 12, "no pixels: the header announces 0 images"),
    "labels": (b"\0\0\x08\x01\0\0\0\x01\x07", "begins with 00 00 08 01 (an IDX file of labels)"),
    "floats": (b"\0\0\x0d\x03" + GOOD[4:], "begins with 00 00 0d 03, expected 00 00 08 03"),
    "other": (b"Hello, world", "not an IDX file", "begins with 48 65 6c 6c"),
    "empty": (b"", "not an IDX file", "begins with nothing"),
    "gzip truncated": (gzip.compress(GOOD)[:-20], "damaged gzip file", "end-of-stream"),
    "gzip damaged": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "damaged gzip file", "CRC"),
    "gzip of other": (gzip.compress(b"Hello"), "not an IDX file of images", "48 65 6c 6c"),
    "gzip short": (gzip.compress(GOOD[:-7]), "truncated", "but 533 follow"),
}


@pytest.mark.parametrize(
    ("content", *["words"]), [(c, w) for c, *w in BAD_FILES.values()], ids=BAD_FILES.keys()
)
def test_bad_file(demo: Demo, tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    assert_refused(demo("--images", path), str(path), *words)


def test_missing_file(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "missing"
    assert_refused(demo("--images", path), f"{path}: No such file or directory")


def test_folder_without_images(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(b"\0\0\x08\x01\0\0\0\x01\x07")
    assert_refused(demo("--images", tmp_path), f"{tmp_path}: no images in this folder")


def test_bad_image_in_a_folder(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(GOOD)
    (tmp_path / "b").write_bytes(GOOD[:-1])
    assert_refused(demo("--images", tmp_path), str(tmp_path / "b"), "truncated")


def test_mixed_sizes(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx3(random_images(2, 8, 8)))
    (tmp_path / "b").write_bytes(idx3(random_images(2, 8, 9)))
    assert_refused(
        demo("--images", tmp_path / "a", tmp_path / "b"),
        "all images of one call must have one size",
        f"{tmp_path / 'a'} has 8 x 8 pixels and {tmp_path / 'b'} has 8 x 9 pixels",
    )


def test_images_too_small_to_pool(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "line"
    path.write_bytes(idx3(random_images(3, 1, 9)))
    assert_refused(demo("--images", path), "at least 2 x 2 pixels, got 1 x 9")


def test_missing_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["demo", "--images", str(path)]) == 2
    assert "needs Pillow: pip install 'fastconv[images]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("missing/results.json", "No such file or directory"),
        ("file/results.json", "Not a directory"),
        (".", "Is a directory"),
    ],
)
def test_unwritable_json(demo: Demo, tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    result = demo("--json", tmp_path / target)
    assert_refused(result, f"cannot write {tmp_path / target}: {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_device(demo: Demo) -> None:
    result = demo("--json", "/dev/full")
    assert result.code == 2
    assert result.err == "fastconv demo: error: cannot write /dev/full: No space left on device\n"
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [*COMMAND, "--repeats", "1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr == (
        "fastconv demo: error: cannot write the output: No space left on device\n"
    )


@pytest.mark.parametrize("option", ["--images", "--json"])
def test_empty_path(demo: Demo, option: str) -> None:
    result = demo(option, "")
    assert result.code == 2
    assert f"argument {option}: the path is empty" in result.err


def test_json_file_is_kept_when_the_work_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryError("no room")

    target = tmp_path / "results.json"
    target.write_text("old")
    monkeypatch.setattr(fastconv, "im2col", fail)
    assert main(["demo", "--json", str(target)]) == 2
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("option", ["--threads", "--repeats"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "1" * 5000])
def test_bad_numbers(demo: Demo, option: str, value: str) -> None:
    result = demo(option, value)
    assert result.code == 2
    assert f"argument {option}: must be a whole number from 1 to" in result.err
    assert "Traceback" not in result.err


def test_no_sub_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "fastconv"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "usage: fastconv" in result.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"fastconv {fastconv.__version__}\n"


# --- Differences ----------------------------------------------------------------------------


def one_off(array: NDArray[Any]) -> NDArray[Any]:
    """Change the last value by one."""
    array = array.copy()
    array.flat[-1] += 1
    return array


WRONG = {
    "im2col": ("im2col", one_off, 1.0),
    "max_pool2d": ("max_pool2d", lambda result: (one_off(result[0]), result[1]), 1.0),
    "indices": ("max_pool2d", lambda result: (result[0], one_off(result[1])), 1.0),
    "indices' dtype": ("max_pool2d", lambda r: (r[0], r[1].astype(np.int32)), None),
    "max_pool2d_backward": ("max_pool2d_backward", one_off, 1.0),
    "col2im": ("col2im", lambda result: result + np.float32(0.25), 0.25),
    "NaN": ("col2im", lambda result: result * np.float32(np.nan), None),
    "dtype": ("im2col", lambda result: result.astype(np.float64), None),
    "shape": ("col2im", lambda result: result[:, 0], None),
}


@pytest.mark.parametrize(("name", "spoil", "difference"), WRONG.values(), ids=WRONG.keys())
def test_difference_gives_exit_code_1(
    demo: Demo,
    name: str,
    spoil: Callable[[Any], Any],
    difference: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = getattr(fastconv, name)
    monkeypatch.setattr(fastconv, name, lambda *args, **kwargs: spoil(right(*args, **kwargs)))
    target, images = tmp_path / "results.json", tmp_path / "images"
    images.write_bytes(GOOD)
    result = demo("--images", images, "--json", target)
    assert result.code == 1, result
    last = result.out.splitlines()[-1]
    assert re.match(rf"1 of 5 results DIFFER: {name}\b", last)
    report = json.loads(target.read_text())
    assert report["equal"] is False
    wrong = next(row for row in report["rows"] if row["operation"].split()[0] == name)
    assert wrong["equal"] is False
    if difference is None:
        assert wrong["largest_difference"] is None
    else:
        assert wrong["largest_difference"] == pytest.approx(difference, rel=1e-5)


def test_nan_equals_nan() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert largest_difference(a, a.copy()) == 0
    assert largest_difference(a, np.array([0, np.inf, -np.inf, 1], np.float32)) == np.inf
    assert largest_difference(a, np.array([np.nan, 0, -np.inf, 1], np.float32)) == np.inf
    assert largest_difference(a, np.array([np.nan, np.inf, -np.inf, 3], np.float32)) == 2


# --- Interruptions --------------------------------------------------------------------------


def start(*args: str) -> subprocess.Popen[str]:
    """Start the command with the signals of a terminal, even where ours ignore some."""
    return subprocess.Popen(
        [*COMMAND, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupt_is_quiet(tmp_path: Path) -> None:
    with start("--repeats", "1000000", "--json", str(tmp_path / "results.json")) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("fastconv")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_reader_that_leaves_is_quiet() -> None:
    with start("--repeats", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141
    assert errors == ""
