"""The command ``fastconv filter``, and the pictures it makes of responses."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PAD_MODES, Array

from fastconv import _filters
from fastconv.__main__ import main

Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

AROUND_GRAY = ["horizontal-edges", "vertical-edges", "laplacian"]


def naive(plane: Array, kernel: Array, pad_mode: Any) -> Array:
    """Correlate one plane with a 3x3 filter, pixel by pixel."""
    padded = np.pad(plane.astype(float), 1, pad_mode)
    result = np.empty(plane.shape)
    for h in range(plane.shape[0]):
        for w in range(plane.shape[1]):
            result[h, w] = (padded[h : h + 3, w : w + 3] * kernel).sum()
    return result


def expected(pixels: Array, name: str, pad_mode: str, largest_pixel: int = 255) -> Array:
    """Filter pixels (H, W, C) as the command's help says."""
    kernel = np.array(_filters.FILTERS[name])
    response = np.stack(
        [naive(pixels[..., c], kernel, pad_mode) for c in range(pixels.shape[-1])], -1
    )
    if name in AROUND_GRAY:
        response = 128 + response * (127 / np.abs(response).max())
    else:
        response = np.clip(response * (255 / largest_pixel), 0, 255)
    result: Array = np.rint(response)
    return result


def drawn(h: int = 7, w: int = 9, channels: int = 3) -> Array:
    return np.random.default_rng(5).integers(0, 256, (h, w, channels), np.uint8)


def save(path: Path, pixels: Array) -> str:
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)
    return str(path)


def load(path: Path) -> Array:
    with Image.open(path) as picture:
        return np.atleast_3d(np.asarray(picture))


def assert_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], *words: str
) -> None:
    """Exit code 2, one line on standard error, nothing else; and no file is changed or left."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert main(["filter", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fastconv filter: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before


# --- What it writes -------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "colour"])
@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("kernel", _filters.FILTERS)
def test_pixels(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kernel: str,
    pad_mode: str,
    channels: int,
) -> None:
    pixels, out = drawn(channels=channels), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    assert main(["filter", image, "--kernel", kernel, "-o", str(out), "--pad-mode", pad_mode]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, kernel, pad_mode))
    assert load(out).dtype == np.uint8
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == (
        f"{out}: 7 x 9 pixels, channels: {channels}, kernel: {kernel}, pad mode: {pad_mode}\n"
    )


def test_process(tmp_path: Path) -> None:
    pixels, out = drawn(), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    result = subprocess.run(
        [sys.executable, "-m", "fastconv", "filter", image, "--kernel", "blur", "-o", str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("kernel: blur, pad mode: constant\n")
    np.testing.assert_array_equal(load(out), expected(pixels, "blur", "constant"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


@pytest.mark.parametrize("kernel", ["laplacian", "sharpen", "blur"])
def test_16_bits(tmp_path: Path, kernel: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (6, 8, 1), np.uint16)
    image, out = save(tmp_path / "deep.png", pixels), tmp_path / "out.png"
    assert main(["filter", image, "--kernel", kernel, "-o", str(out)]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, kernel, "constant", 65535))


@pytest.mark.parametrize("kernel", AROUND_GRAY)
def test_flat_image_has_no_edges(tmp_path: Path, kernel: str) -> None:
    image = save(tmp_path / "in.png", np.full((4, 5, 1), 200, np.uint8))
    out = tmp_path / "out.png"
    arguments = ["--kernel", kernel, "-o", str(out), "--pad-mode", "edge"]
    assert main(["filter", image, *arguments]) == 0
    assert (load(out) == 128).all()


@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_single_pixel(tmp_path: Path, pad_mode: str) -> None:
    pixels, out = np.full((1, 1, 1), 90, np.uint8), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    assert main(["filter", image, "--kernel", "blur", "-o", str(out), "--pad-mode", pad_mode]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, "blur", pad_mode))


def test_first_image_of_an_idx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 12, 9), np.uint8)
    path, out = tmp_path / "images.gz", tmp_path / "out.png"
    header = b"\0\0\x08\x03" + np.array(pixels.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + pixels.tobytes()))
    assert main(["filter", str(path), "--kernel", "emboss", "-o", str(out)]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels[0, ..., None], "emboss", "constant"))
    assert "pad mode: constant (the first of 5 images)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extension", "image_format"),
    [("png", "PNG"), ("PNG", "PNG"), ("jpg", "JPEG"), ("bmp", "BMP"), ("tiff", "TIFF")],
)
def test_extension_says_the_format(tmp_path: Path, extension: str, image_format: str) -> None:
    image, out = save(tmp_path / "in.png", drawn()), tmp_path / f"out.{extension}"
    assert main(["filter", image, "--kernel", "sharpen", "-o", str(out)]) == 0
    with Image.open(out) as picture:
        assert (picture.format, picture.size) == (image_format, (9, 7))


def test_image_can_be_replaced_by_the_result(tmp_path: Path) -> None:
    pixels = drawn()
    image = save(tmp_path / "in.png", pixels)
    assert main(["filter", image, "--kernel", "blur", "-o", image]) == 0
    np.testing.assert_array_equal(load(tmp_path / "in.png"), expected(pixels, "blur", "constant"))


# --- Errors ---------------------------------------------------------------------------------


def test_bad_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--kernel", "blur", "-o", str(tmp_path / "out.png")]
    (tmp_path / "out.png").write_text("old")
    damaged, text, missing = (tmp_path / name for name in ("damaged.png", "a.txt", "missing"))
    save(damaged, drawn(64, 64))
    damaged.write_bytes(damaged.read_bytes()[:1000])
    text.write_text("Hello")
    assert_refused(capsys, tmp_path, [str(damaged), *out], str(damaged), "truncated")
    assert_refused(capsys, tmp_path, [str(text), *out], str(text), "nor an image")
    no_file = f"{missing}: No such file or directory"
    assert_refused(capsys, tmp_path, [str(missing), *out], no_file)
    assert_refused(capsys, tmp_path, [str(tmp_path), *out], f"{tmp_path}: a folder, not an image")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("missing/out.png", "No such file or directory"),
        ("in.png/out.png", "Not a directory"),
        ("folder.png", "Is a directory"),
    ],
)
def test_unwritable_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, reason: str
) -> None:
    image, out = save(tmp_path / "in.png", drawn()), str(tmp_path / target)
    (tmp_path / "folder.png").mkdir()
    arguments = [image, "--kernel", "blur", "-o", out]
    assert_refused(capsys, tmp_path, arguments, f"cannot write {out}: {reason}")


@pytest.mark.parametrize("name", ["out", "out.", "out.xyz", ".png", "out.psd"])
def test_unknown_extension(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    image, out = save(tmp_path / "in.png", drawn()), str(tmp_path / name)
    words = f"cannot write {out}: its extension must be that of an image format", "such as .png"
    assert_refused(capsys, tmp_path, [image, "--kernel", "blur", "-o", out], *words)


def test_format_that_cannot_hold_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = save(tmp_path / "in.png", drawn()), str(tmp_path / "out.xbm")
    words = f"cannot write {out} as XBM: cannot write mode RGB"
    assert_refused(capsys, tmp_path, [image, "--kernel", "blur", "-o", out], words)


def test_old_file_is_kept_when_writing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, out = save(tmp_path / "in.png", drawn()), tmp_path / "out.png"
    out.write_text("old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    words = f"cannot write {out}: No space left on device"
    assert_refused(capsys, tmp_path, [image, "--kernel", "blur", "-o", str(out)], words)


def test_missing_pillow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    arguments = ["in.png", "--kernel", "blur", "-o", "out.png"]
    words = "writing an image needs Pillow: pip install 'fastconv[images]'"
    assert_refused(capsys, tmp_path, arguments, words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "-o", "b.png"], "the following arguments are required: --kernel"),
        (["a", "--kernel", "blur"], "the following arguments are required: -o/--output"),
        (["a", "--kernel", "sobel", "-o", "b.png"], "argument --kernel: invalid choice: 'sobel'"),
        (
            ["a", "--kernel", "blur", "-o", "b.png", "--pad-mode", "zeros"],
            "argument --pad-mode: invalid choice: 'zeros'",
        ),
        (["", "--kernel", "blur", "-o", "b.png"], "argument IMAGE: the path is empty"),
        (["a", "--kernel", "blur", "-o", ""], "argument -o/--output: the path is empty"),
    ],
)
def test_bad_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["filter", *arguments])
    assert message in capsys.readouterr().err
