"""Folders of image files: what becomes of every kind, in one process and in several."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Array, run_python

from fastconv import _image_folder, _pictures
from fastconv.datasets import load_image_folder

Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

# Python 3.12 and 3.13 warn of processes that are forked while threads run, such as OpenMP's.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

H, W = 6, 8


def drawn(channels: int = 3, seed: int = 0, size: tuple[int, int] = (H, W)) -> Array:
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: Array, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folder_of(root: Path, *pictures: Any, name: str = "class") -> Path:
    """Save pictures of Pillow's as PNG files of one class."""
    for i, picture in enumerate(pictures):
        (root / name).mkdir(parents=True, exist_ok=True)
        picture.save(root / name / f"{i:03}.png")
    return root


def chw(pixels: Array) -> Array:
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def needs_fork() -> None:
    if multiprocessing.get_start_method() != "fork":
        pytest.skip("what a test replaces is replaced only in processes that are forked")


@pytest.fixture(params=[0, 2], ids=["alone", "processes"])
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Decode in this process and in two others, of which each gets several chunks."""
    monkeypatch.setattr(_image_folder, "CHUNK", 3)
    count: int = request.param
    return count


# --- Files, labels, names -------------------------------------------------------------------


def test_classes_and_their_order(tmp_path: Path, workers: int) -> None:
    """Names of folders are sorted, and within one the paths of files; the rest is left alone."""
    known = {}
    paths = ["b/2.png", "b/10.png", "a/z.png", "a/deep/1.bmp", "a/deep/er/0.PNG", "C c/1.tif"]
    for i, path in enumerate(paths):
        known[path] = drawn(seed=i)
        save(tmp_path / path, known[path])
    for path in ("b/notes.txt", "b/.hidden.png", "outside.png", ".git/config", "a/.cache/1.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"no image")
    images, labels, names = load_image_folder(tmp_path, workers=workers)
    assert names == ("C c", "a", "b")
    assert labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert labels.dtype == np.int64
    order = ["C c/1.tif", "a/z.png", "a/deep/1.bmp", "a/deep/er/0.PNG", "b/10.png", "b/2.png"]
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images, [chw(known[path]) for path in order])


def test_many_images(tmp_path: Path, workers: int) -> None:
    pixels = [drawn(seed=i) for i in range(31)]
    for i, image in enumerate(pixels):
        save(tmp_path / str(i % 3) / f"{i:02}.png", image)
    order = sorted(range(31), key=lambda i: i % 3)
    images, labels, names = load_image_folder(str(tmp_path), workers=workers)
    np.testing.assert_array_equal(images, [chw(pixels[i]) for i in order])
    assert labels.tolist() == [i % 3 for i in order]
    assert names == ("0", "1", "2")


def test_number_of_processes_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as threads, but no more than chunks, and none if one would do."""
    folder_of(tmp_path, *(Image.fromarray(drawn(seed=i)) for i in range(7)))
    expected = load_image_folder(tmp_path, workers=0)[0]
    counts: list[int] = []
    usual = _image_folder._decoded_chunks

    def noted(chunks: Any, task: Any, workers: int) -> Any:
        counts.append(workers)
        return usual(chunks, task, 0)

    monkeypatch.setattr(_image_folder, "_decoded_chunks", noted)
    monkeypatch.setattr(_image_folder, "get_num_threads", lambda: 3)
    for chunk in (7, 4, 2, 1):
        monkeypatch.setattr(_image_folder, "CHUNK", chunk)
        np.testing.assert_array_equal(load_image_folder(tmp_path)[0], expected)
    monkeypatch.setattr(_image_folder, "get_num_threads", lambda: 1)
    load_image_folder(tmp_path)
    assert counts == [0, 2, 3, 3, 0]


# --- Kinds of images ------------------------------------------------------------------------


def palette(transparency: Any = None) -> Any:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putdata([0, 1])
    if transparency is not None:
        picture.info["transparency"] = transparency
    return picture


def bits() -> Any:
    return Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")


COLOURS = [[10, 20, 30], [200, 100, 0]]
GRAY = [[7] * 3, [250] * 3]
KINDS: dict[str, tuple[Any, Any]] = {
    "gray": (np.array([[7, 250]], np.uint8), GRAY),
    "gray and transparency": (np.array([[[7, 0], [250, 99]]], np.uint8), GRAY),
    "colour": (np.array([COLOURS], np.uint8), COLOURS),
    "transparency": (np.array([[[10, 20, 30, 0], [200, 100, 0, 77]]], np.uint8), COLOURS),
    "16 bits": (np.array([[7 * 257 + 128, 250 * 257 - 128]], np.uint16), GRAY),
    "limits of 16 bits": (np.array([[0, 65535]], np.uint16), [[0] * 3, [255] * 3]),
    "palette": (palette(), COLOURS),
    "palette with a transparent colour": (palette(1), COLOURS),
    "palette with transparencies": (palette(bytes([0, 100])), COLOURS),
    "black and white": (bits(), [[0] * 3, [255] * 3]),
}


@pytest.mark.parametrize(("source", "pixels"), KINDS.values(), ids=KINDS.keys())
def test_kinds_of_images(tmp_path: Path, source: Any, pixels: Any) -> None:
    picture = Image.fromarray(source) if isinstance(source, np.ndarray) else source
    root = folder_of(tmp_path, picture)
    images, _, _ = load_image_folder(root)
    np.testing.assert_array_equal(images, chw(np.array([pixels], np.uint8))[np.newaxis])
    gray, _, _ = load_image_folder(root, gray=True)
    weights = np.array([299, 587, 114]) / 1000
    assert gray.shape == (1, 1, 1, 2)
    np.testing.assert_allclose(gray[0, 0, 0], np.array(pixels) @ weights, atol=1)


def test_kinds_of_images_together(tmp_path: Path, workers: int) -> None:
    pictures = [source for source, _ in KINDS.values()]
    root = folder_of(
        tmp_path, *(Image.fromarray(p) if isinstance(p, np.ndarray) else p for p in pictures)
    )
    images, _, _ = load_image_folder(root, workers=workers)
    expected = [chw(np.array([pixels], np.uint8)) for _, pixels in KINDS.values()]
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colours(tmp_path: Path, mode: str) -> None:
    (tmp_path / "class").mkdir()
    gray = Image.new("RGB", (W, H), (90, 90, 90))
    gray.convert(mode).save(tmp_path / "class" / "1.jpg", quality=100)
    images, _, _ = load_image_folder(tmp_path)
    assert images.shape == (1, 3, H, W)
    assert abs(images.astype(int) - 90).max() <= 2


def test_colours_that_are_not_converted() -> None:
    """Which modes there is no conversion from depends on Pillow's version."""

    class Picture:
        mode = "XYZ"

        def convert(self, mode: str) -> Any:
            raise ValueError(f"conversion from XYZ to {mode} not supported")

    words = "1.tif: cannot read an image of mode XYZ: conversion from XYZ to RGB not supported"
    with pytest.raises(_pictures.PictureError, match=words):
        _pictures.converted(Path("1.tif"), Picture(), "RGB")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    pixels = drawn(1)
    turns: list[Callable[[Array], Array]] = [
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.T,
        lambda a: np.rot90(a, -1),
        lambda a: np.rot90(a, 2).T,
        lambda a: np.rot90(a),
    ]
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "class" / "1.png", pixels, exif=exif)
    images, _, _ = load_image_folder(tmp_path, gray=True)
    np.testing.assert_array_equal(images[0, 0], turns[orientation - 1](pixels))


def test_first_image_of_an_animation(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(np.full((H, W), v, np.uint8)) for v in (10, 200)]
    (tmp_path / "class").mkdir()
    first.save(tmp_path / "class" / "1.gif", save_all=True, append_images=others)
    images, _, _ = load_image_folder(tmp_path)
    assert (images == 10).all()


# --- Sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gray", [False, True])
def test_resized(tmp_path: Path, workers: int, gray: bool) -> None:
    """To the size as it is said, by Pillow, after the image has been turned upright."""
    shapes = [(20, 30), (5, 4), (7, 9), (1, 1), (40, 3)]
    for i, shape in enumerate(shapes):
        save(tmp_path / "class" / f"{i}.png", drawn(seed=i, size=shape))
    images, _, _ = load_image_folder(tmp_path, (7, 9), gray=gray, workers=workers)
    assert images.shape == (5, 1 if gray else 3, 7, 9)
    for i, (image, shape) in enumerate(zip(images, shapes)):
        picture = Image.fromarray(drawn(seed=i, size=shape)).convert("L" if gray else "RGB")
        known = np.asarray(picture.resize((9, 7), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image, chw(known))
    square, _, _ = load_image_folder(tmp_path, 4)
    assert square.shape == (5, 3, 4, 4)


def test_images_of_two_sizes(tmp_path: Path, workers: int) -> None:
    for i in range(12):
        save(tmp_path / "class" / f"{i:02}.png", drawn(size=(H, W + (i in (8, 10)))))
    words = (
        "load_image_folder: images must have one size or be resized, give size: "
        f"{tmp_path / 'class' / '00.png'} has 6 x 8 pixels, {tmp_path / 'class' / '08.png'} has "
        "6 x 9 pixels"
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        load_image_folder(tmp_path, workers=workers)


# --- Errors ---------------------------------------------------------------------------------


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn(size=(50, 50))).save(file, "PNG")
    return file.getvalue()


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an image that Pillow can read"),
    "text": (b"Hello, world", "not an image that Pillow can read"),
    "a signature": (
        b"\xff\xd8\xff" + b"x" * 50,
        "a damaged JPEG file: it begins as one, but what follows cannot be read",
    ),
    "truncated": (png()[:3000], "cannot read the PNG file: "),
    "changed": (png()[:3000] + b"\0" * 100 + png()[3100:], "cannot read the PNG file: "),
}


@pytest.mark.parametrize(("data", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files(tmp_path: Path, workers: int, data: bytes, words: str) -> None:
    """The first bad file is named, in whatever process it was read."""
    for i in range(12):
        path = save(tmp_path / "class" / f"{i:02}.png", drawn(size=(50, 50)))
        if i in (7, 11):
            path.write_bytes(data)
    message = f"load_image_folder: {tmp_path / 'class' / '07.png'}: {words}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_image_folder(tmp_path, workers=workers)


def test_images_that_are_too_large(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds in the processes, too."""
    if workers:
        needs_fork()
    for i in range(8):
        save(tmp_path / "class" / f"{i}.png", drawn(size=(10, 10 + (i == 5))))
    monkeypatch.setattr(_pictures, "MOST_PIXELS", 105)
    message = f"{tmp_path / 'class' / '5.png'}: the image is too large: it has more than 105 pixels"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_image_folder(tmp_path, 10, workers=workers)


def test_floats(tmp_path: Path) -> None:
    path = tmp_path / "class" / "1.tif"
    save(path, np.full((H, W), 0.5, np.float32))
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: only pixels of 8 or 16 bits are read")
    ):
        load_image_folder(tmp_path)
    save(path, np.full((H, W), np.nan, np.float32))
    with pytest.raises(ValueError, match="only pixels of 8 or 16 bits are read"):
        load_image_folder(tmp_path)


def test_folders_without_images(tmp_path: Path) -> None:
    words = f"load_image_folder: {tmp_path}: no folders in this folder, where one for every class"
    with pytest.raises(ValueError, match=re.escape(words)):
        load_image_folder(tmp_path)
    save(tmp_path / "a" / "1.png", drawn())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").touch()
    words = f"load_image_folder: {tmp_path / 'b'}: no images in this folder, files called *.bmp, "
    with pytest.raises(ValueError, match=re.escape(words)):
        load_image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        load_image_folder(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="notes"):
        load_image_folder(tmp_path / "b" / "notes.txt")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX links")
def test_links(tmp_path: Path, workers: int) -> None:
    """Links to files are read, links to folders within a class are not followed."""
    save(tmp_path / "elsewhere" / "1.png", drawn())
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "root" / "a" / "around").symlink_to(tmp_path / "root" / "a")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere")
    images, labels, _ = load_image_folder(tmp_path / "root", workers=workers)
    assert labels.tolist() == [0, 1]
    np.testing.assert_array_equal(images, [chw(drawn())] * 2)
    (tmp_path / "root" / "a" / "2.png").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "root" / "a" / "2.png"))):
        load_image_folder(tmp_path / "root", workers=workers)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"size": 0}, ValueError, "size must be a positive int or a pair of them, got 0"),
        ({"size": (10**6, 10**6)}, ValueError, "size must be of at most 268,435,456 pixels"),
        ({"workers": -1}, ValueError, "workers must be a non-negative int, got -1"),
        ({"workers": 1.0}, TypeError, "workers must be a non-negative int, got 1.0"),
        ({"path": 3}, TypeError, "path must be a path, got 3"),
    ],
)
def test_arguments(
    tmp_path: Path, arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    save(tmp_path / "class" / "1.png", drawn())
    with pytest.raises(kind, match=re.escape(f"load_image_folder: {words}")):
        load_image_folder(**{"path": tmp_path, **arguments})


def test_without_pillow(tmp_path: Path) -> None:
    result = run_python(
        "import sys\n"
        "sys.modules['PIL'] = sys.modules['PIL.Image'] = None\n"
        "from fastconv.datasets import load_digits, load_image_folder\n"
        "load_digits()\n"
        "try:\n"
        f"    load_image_folder({str(tmp_path)!r})\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert result.stdout == ("load_image_folder needs Pillow: pip install 'fastconv[images]'\n"), (
        result.stderr
    )


# --- Processes ------------------------------------------------------------------------------


def test_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_fork()
    folder_of(tmp_path, Image.fromarray(drawn()))
    monkeypatch.setattr(_image_folder, "_decoded", lambda *_: os._exit(1))
    with pytest.raises(RuntimeError, match="a process that decoded images has ended early"):
        load_image_folder(tmp_path, 4, workers=1)


SCRIPT = """
import multiprocessing
from fastconv.datasets import load_image_folder

def load():
    images, labels, names = load_image_folder({folder!r}, workers=2)
    print(images.shape, int(images.sum()), labels.tolist(), names)
"""
GUARD = "if __name__ == '__main__':\n    multiprocessing.set_start_method('spawn')\n    load()\n"
NO_GUARD = "multiprocessing.set_start_method('spawn', force=True)\nload()\n"


@pytest.mark.parametrize("is_guarded", [True, False])
def test_processes_that_are_not_forked(tmp_path: Path, is_guarded: bool) -> None:
    folder_of(tmp_path / "images", *(Image.fromarray(drawn(seed=i)) for i in range(40)))
    script = tmp_path / "script.py"
    text = SCRIPT.format(folder=str(tmp_path / "images"))
    script.write_text(text + (GUARD if is_guarded else NO_GUARD))
    result = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    if is_guarded:
        images, labels, names = load_image_folder(tmp_path / "images", workers=0)
        expected = f"{images.shape} {int(images.sum())} {labels.tolist()} {names}\n"
        assert (result.stdout, result.stderr) == (expected, "")
    else:
        assert result.returncode == 1
        assert result.stdout == ""
        assert "RuntimeError: a process that decoded images has ended early." in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupt_ends_all_processes(tmp_path: Path) -> None:
    """Ctrl-C, which reaches all processes of a terminal, leaves one traceback and no process."""
    pixels = Image.fromarray(drawn(size=(1500, 1500)))
    folder_of(tmp_path, pixels)
    for i in range(1, 3000):
        (tmp_path / "class" / f"{i:04}.png").symlink_to("000.png")
    code = f"""
        import os, signal, threading
        from fastconv import _image_folder
        from fastconv.datasets import load_image_folder

        signal.signal(signal.SIGINT, signal.default_int_handler)
        usual = _image_folder.open_bar

        class Bar:
            def __enter__(self): return self
            def __exit__(self, *_): pass
            def update(self, count): print("decoding", flush=True)

        _image_folder.CHUNK = 4
        _image_folder.open_bar = lambda *_: Bar()
        load_image_folder({str(tmp_path)!r}, 8, workers=2, progress=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "decoding\n"
        os.killpg(process.pid, signal.SIGINT)
        # The pipes are closed when no process holds them any more.
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert errors.count("Traceback") == 1, errors
    assert errors.endswith("KeyboardInterrupt\n")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """A bar counts images on a terminal; it changes nothing."""
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    folder_of(tmp_path, *(Image.fromarray(drawn(seed=i)) for i in range(8)))
    expected = load_image_folder(tmp_path, workers=workers)[0]
    bars = []

    class Bar(tqdm.tqdm):  # type: ignore[name-defined,misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            bars.append(self)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    images, _, _ = load_image_folder(tmp_path, workers=workers, progress=True)
    np.testing.assert_array_equal(images, expected)
    assert [(bar.n, bar.total, bar.unit) for bar in bars] == [(8, 8, "image")] * is_terminal
    load_image_folder(tmp_path, workers=workers)
    assert len(bars) == is_terminal
