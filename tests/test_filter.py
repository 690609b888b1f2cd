"""The command ``fastconv filter``, and the pictures it makes of responses."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PAD_MODES, PEAK, Array, needs_proc, run_python

from fastconv import _commands, _pictures
from fastconv.__main__ import main
from fastconv._filter_bank import FILTERS

ndimage: Any = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

SCIPY_MODES = {
    "constant": "constant",
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "wrap": "wrap",
}
AROUND_GRAY = ["horizontal-edges", "vertical-edges", "laplacian"]


def naive(plane: Array, kernel: Array, pad_mode: Any) -> Array:
    """Correlate one plane with a 3x3 filter, pixel by pixel; zeros do not meet NaN."""
    padded = np.pad(plane.astype(float), 1, pad_mode)
    result = np.empty(plane.shape)
    for h in range(plane.shape[0]):
        for w in range(plane.shape[1]):
            result[h, w] = (padded[h : h + 3, w : w + 3] * kernel)[kernel != 0].sum()
    return result


def expected(
    pixels: Array, name: str, pad_mode: str, largest_pixel: int = 255, white: int = 255
) -> Array:
    """Filter pixels (H, W, C) as the command's help says."""
    kernel = np.array(FILTERS[name])
    response = np.stack(
        [naive(pixels[..., c], kernel, pad_mode) for c in range(pixels.shape[-1])], -1
    )
    if name in AROUND_GRAY:
        gray = (white + 1) // 2
        response = gray + response * ((white - gray) / np.abs(response).max())
    else:
        response = np.clip(response * (white / largest_pixel), 0, white)
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
@pytest.mark.parametrize("kernel", FILTERS)
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
    mode = SCIPY_MODES[pad_mode]
    assert captured.out == (
        f"{out}: 9 x 7 pixels, channels: {channels}, kernel: {kernel}, mode: {mode}\n"
    )


@pytest.mark.parametrize("text", ["-1,0,1;-2,0,2;-1,0,1", "-.5,.5", "-1"])
def test_kernels_that_begin_with_a_minus(tmp_path: Path, text: str) -> None:
    pictures = []
    for i, kernel in enumerate((["--kernel", text], [f"--kernel={text}"])):
        target = str(tmp_path / f"{i}.png")
        assert main(["filter", save(tmp_path / "image.png", drawn()), *kernel, "-o", target]) == 0
        pictures.append(load(Path(target)))
    assert np.array_equal(pictures[0], pictures[1])


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
    assert result.stdout.endswith("kernel: blur, mode: constant\n")
    np.testing.assert_array_equal(load(out), expected(pixels, "blur", "constant"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


@pytest.mark.parametrize("kernel", ["laplacian", "sharpen", "blur"])
@pytest.mark.parametrize("source", ["png", "tiff"])
@pytest.mark.parametrize(("target", "white"), [("png", 65535), ("tiff", 65535), ("bmp", 255)])
def test_16_bits(tmp_path: Path, kernel: str, source: str, target: str, white: int) -> None:
    """Sixteen bits are kept where the output format supports them."""
    pixels = np.random.default_rng(3).integers(0, 65536, (6, 8, 1), np.uint16)
    image, out = save(tmp_path / f"deep.{source}", pixels), tmp_path / f"out.{target}"
    assert main(["filter", image, "--kernel", kernel, "-o", str(out)]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, kernel, "constant", 65535, white))


def test_16_bits_in_either_byte_order(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (6, 8, 1), np.uint16)
    picture = Image.frombytes("I;16B", (8, 6), pixels.astype(">u2").tobytes())
    picture.save(tmp_path / "in.tiff")
    out = tmp_path / "out.png"
    assert main(["filter", str(tmp_path / "in.tiff"), "--kernel", "emboss", "-o", str(out)]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, "emboss", "constant", 65535, 65535))


def test_conversions_that_pillow_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such conversion")

    arguments = [save(tmp_path / "in.png", drawn()), "-o", str(tmp_path / "out.png")]
    monkeypatch.setattr(Image.Image, "convert", fail)
    words = "in.png: cannot read an image of mode RGB: no such conversion"
    assert_refused(capsys, tmp_path, [*arguments, "--kernel", "blur"], words)


@pytest.mark.parametrize("kernel", ["laplacian", "sharpen", "blur"])
def test_floats(tmp_path: Path, kernel: str) -> None:
    """A TIFF file contains the response itself, and NaN only where it belongs."""
    pixels = np.random.default_rng(3).standard_normal((6, 8, 1)).astype(np.float32)
    pixels[1, 1] = np.nan
    image, out = save(tmp_path / "in.tiff", pixels), tmp_path / "out.tiff"
    assert main(["filter", image, "--kernel", kernel, "-o", str(out)]) == 0
    result = load(out)
    assert result.dtype == np.float32
    known = naive(pixels[..., 0], np.array(FILTERS[kernel]), "constant")
    np.testing.assert_allclose(result[..., 0], known, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", ["laplacian", "blur"])
def test_floats_in_other_formats(tmp_path: Path, kernel: str) -> None:
    """The smallest value becomes black and the largest becomes white."""
    pixels = np.arange(-24.0, 24).reshape(6, 8, 1).astype(np.float32) / 8
    image, out = save(tmp_path / "in.tiff", pixels), tmp_path / "out.png"
    arguments = ["--kernel", kernel, "-o", str(out), "--pad-mode", "edge"]
    assert main(["filter", image, *arguments]) == 0
    scaled = pixels if kernel == "laplacian" else (pixels + 3) * (255 / (pixels.max() + 3))
    np.testing.assert_array_equal(load(out), expected(scaled, kernel, "edge"))


def test_floats_that_are_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.ones((6, 8, 1), np.float32)
    pixels[2, 3] = np.inf
    arguments = [save(tmp_path / "in.tiff", pixels), "-o", str(tmp_path / "out.png")]
    words = "in.tiff: it holds NaN or infinity, which only a TIFF file can show"
    assert_refused(capsys, tmp_path, [*arguments, "--kernel", "blur"], words)


@pytest.mark.parametrize(("low", "high"), [(-1, 9), (0, 65536)])
def test_integers_that_are_no_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], low: int, high: int
) -> None:
    pixels = np.array([[[low], [high]]], np.int32)
    arguments = [save(tmp_path / "in.tiff", pixels), "-o", str(tmp_path / "out.png")]
    words = f"in.tiff: pixels that are integers must be from 0 to 65535, got {low} to {high}"
    assert_refused(capsys, tmp_path, [*arguments, "--kernel", "blur"], words)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("kernel", ["laplacian", "emboss"])
def test_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, pad_mode: str) -> None:
    """The result does not depend on where the image is cut into bands."""
    pixels, out = drawn(7, 9), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    for size in (1, 18, 30):  # one, two and three rows
        monkeypatch.setattr(_commands.filter, "BAND_PIXELS", size)
        arguments = ["--kernel", kernel, "-o", str(out), "--pad-mode", pad_mode]
        assert main(["filter", image, *arguments]) == 0
        np.testing.assert_array_equal(load(out), expected(pixels, kernel, pad_mode))


# --- SciPy's filters, and kernels of the user's ----------------------------------------------


def clipped(response: Array) -> Array:
    """Draw a response that is pixels."""
    result: Array = np.rint(np.clip(response, 0, 255)).astype(np.uint8)
    return result


def gradient(plane: Array, mode: str) -> Array:
    """Draw the magnitude of the gradient from black to white."""
    magnitude = np.hypot(*(ndimage.sobel(plane.astype(float), i, mode=mode) for i in (0, 1)))
    return clipped(magnitude * (255 / magnitude.max()))


NAMED: dict[str, tuple[list[str], Callable[[Array, str], Array]]] = {
    "gaussian, sigma 1": (
        ["gaussian"],
        lambda plane, mode: clipped(ndimage.gaussian_filter(plane.astype(float), 1, mode=mode)),
    ),
    "gaussian, sigma 2.5": (
        ["gaussian", "--sigma", "2.5"],
        lambda plane, mode: clipped(ndimage.gaussian_filter(plane.astype(float), 2.5, mode=mode)),
    ),
    "median, size 3": (["median"], lambda plane, mode: ndimage.median_filter(plane, 3, mode=mode)),
    "median, size 4": (
        ["median", "--size", "4"],
        lambda plane, mode: ndimage.median_filter(plane, 4, mode=mode),
    ),
    "maximum, size 5": (
        ["maximum", "--size", "5"],
        lambda plane, mode: ndimage.maximum_filter(plane, 5, mode=mode),
    ),
    "minimum, size 3": (
        ["minimum", "--size", "3"],
        lambda plane, mode: ndimage.minimum_filter(plane, 3, mode=mode),
    ),
    "sobel": (["sobel"], gradient),
    "0,1,0;1,-4.5,1": (
        ["0,1,0;1,-4.5,1"],
        lambda plane, mode: clipped(
            ndimage.correlate(plane.astype(float), [[0, 1, 0], [1, -4.5, 1]], mode=mode)
        ),
    ),
}


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "colour"])
@pytest.mark.parametrize("mode", SCIPY_MODES.values())
@pytest.mark.parametrize("name", NAMED)
def test_named_filters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, mode: str, channels: int
) -> None:
    arguments, filtered = NAMED[name]
    pixels, out = drawn(13, 11, channels), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    command = ["filter", image, "-o", str(out), "--mode", mode, "--kernel", *arguments]
    assert main(command) == 0
    known = [filtered(pixels[..., c], mode) for c in range(channels)]
    if name == "sobel" and channels == 3:  # One scale for all channels.
        assert load(out).max() == 255
    else:
        np.testing.assert_array_equal(load(out), np.stack(known, -1))
    assert capsys.readouterr().out.endswith(f"kernel: {name}, mode: {mode}\n")


def test_filters_reflect_and_kernels_have_zeros_around(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, out = save(tmp_path / "in.png", drawn()), tmp_path / "out.png"
    for kernel, mode in [("median", "reflect"), ("blur", "constant"), ("1", "constant")]:
        assert main(["filter", image, "-o", str(out), "--kernel", kernel]) == 0
        assert capsys.readouterr().out.endswith(f"mode: {mode}\n")


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, np.bool_])
def test_kernel_of_a_file(tmp_path: Path, dtype: Any) -> None:
    kernel = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    np.save(tmp_path / "kernel.npy", kernel)
    pixels, out = drawn(channels=1), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    path = str(tmp_path / "kernel.npy")
    assert main(["filter", image, "-o", str(out), "--kernel", path, "--mode", "wrap"]) == 0
    response = ndimage.correlate(pixels[..., 0].astype(float), kernel.astype(float), mode="wrap")
    np.testing.assert_array_equal(load(out)[..., 0], clipped(response))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(3), "a kernel has rows and columns, this has shape (3,)"),
        (np.ones((0, 3)), "a kernel has rows and columns, this has shape (0, 3)"),
        (np.ones((1, 1025)), "at most 1024 rows and columns, this has shape (1, 1025)"),
        (np.array([[1, np.nan]]), "the numbers of a kernel must be finite"),
        (np.ones((2, 2), complex), "a kernel holds real numbers, this is complex128"),
        (np.array([[None]]), "not an .npy file that numpy.load reads"),
    ],
)
def test_arrays_that_are_no_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], array: Array, words: str
) -> None:
    path = str(tmp_path / "kernel.npy")
    np.save(path, array)
    arguments = [save(tmp_path / "in.png", drawn()), "-o", str(tmp_path / "out.png")]
    assert_refused(capsys, tmp_path, [*arguments, "--kernel", path], path, words)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x06"])
def test_files_that_are_no_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "kernel.npy"
    path.write_bytes(content)
    arguments = [save(tmp_path / "in.png", drawn()), "-o", str(tmp_path / "out.png")]
    words = "kernel.npy: not an .npy file that numpy.load reads"
    assert_refused(capsys, tmp_path, [*arguments, "--kernel", str(path)], words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kernel", "nothing.npy"], "nothing.npy: No such file or directory"),
        (["--kernel", "blurred"], "--kernel must be one of horizontal-edges, "),
        (["--kernel", ""], "--kernel must be one of horizontal-edges, "),
        (["--kernel", "1,2;3"], "all rows must have as many numbers"),
        (["--kernel", "1,inf"], "the numbers of a kernel must be finite"),
        (["--kernel", "blur", "--sigma", "2"], "--sigma belongs to --kernel gaussian, not to blur"),
        (["--kernel", "gaussian", "--size", "3"], "--size belongs to --kernel median, maximum"),
        (["--kernel", "gaussian", "--sigma", "1001"], "--sigma must be at most 1000, got 1001"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    arguments = [save(tmp_path / "in.png", drawn()), "-o", str(tmp_path / "out.png")]
    assert_refused(capsys, tmp_path, [*arguments, *options], words)


@pytest.mark.parametrize("kernel", ["gaussian", "median", "sobel", "emboss"])
def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str], kernel: str) -> None:
    """Times are those of this machine; that the results are the same is not."""
    image, out, plain = save(tmp_path / "in.png", drawn()), tmp_path / "a.png", tmp_path / "b.png"
    command = ["filter", image, "--kernel", kernel]
    assert main([*command, "-o", str(plain)]) == 0
    capsys.readouterr()
    assert main([*command, "-o", str(out), "--compare"]) == 0
    assert out.read_bytes() == plain.read_bytes()
    _, line = capsys.readouterr().out.splitlines()
    found = re.fullmatch(
        r"fastconv [\d.]+ ms on \d+ threads?, SciPy [\d.]+ ms: [\d.]+ times as fast; "
        r"largest difference ([-\d.e]+)",
        line,
    )
    assert found is not None
    assert float(found[1]) < 1e-9


def test_wide_filters_in_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, out = drawn(23, 9, 1), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    monkeypatch.setattr(_commands.filter, "BAND_PIXELS", 1)
    for mode in SCIPY_MODES.values():
        command = ["filter", image, "-o", str(out), "--kernel", "median", "--size", "5"]
        assert main([*command, "--mode", mode]) == 0
        known = ndimage.median_filter(pixels[..., 0], 5, mode=mode)
        np.testing.assert_array_equal(load(out)[..., 0], known)


# --- Orientation, transparency, size --------------------------------------------------------

# How each of EXIF's orientations turns what is stored, as pixels (H, W, C), into what is seen.
UPRIGHT: dict[int, Callable[[Array], Array]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels[::-1].transpose(1, 0, 2),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_photographs_are_turned_upright(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], orientation: int, extension: str
) -> None:
    pixels, image, out = drawn(), tmp_path / f"in.{extension}", tmp_path / "out.png"
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(image, exif=exif)
    assert main(["filter", str(image), "--kernel", "horizontal-edges", "-o", str(out)]) == 0
    seen = UPRIGHT[orientation](pixels)
    np.testing.assert_array_equal(load(out), expected(seen, "horizontal-edges", "constant"))
    size = "9 x 7" if orientation < 5 else "7 x 9"
    assert f"{out}: {size} pixels, " in capsys.readouterr().out
    with Image.open(out) as picture:
        assert 274 not in picture.getexif()


def test_damaged_exif_data(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Pixels are filtered anyway, and Pillow's warnings do not reach the terminal."""
    pixels, image, out = drawn(), tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(pixels).save(image, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert main(["filter", str(image), "--kernel", "blur", "-o", str(out)]) == 0
    np.testing.assert_array_equal(load(out), expected(pixels, "blur", "constant"))
    assert [warning.message for warning in recwarn] == []


PROFILE = b"what the numbers mean" * 9  # Nobody on the way looks into it.


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff", "webp", "bmp", "gif"])
def test_colour_profile_is_kept(tmp_path: Path, extension: str) -> None:
    """Without its profile a phone's photograph would have paler colours."""
    image, out = tmp_path / "in.png", tmp_path / f"out.{extension}"
    Image.fromarray(drawn()).save(image, icc_profile=PROFILE)
    assert main(["filter", str(image), "--kernel", "blur", "-o", str(out)]) == 0
    with Image.open(out) as picture:
        kept = None if extension in ("bmp", "gif") else PROFILE  # They have no profiles.
        assert picture.info.get("icc_profile") == kept


def test_colour_profile_of_colours_that_are_converted(tmp_path: Path) -> None:
    image, out = tmp_path / "in.tiff", tmp_path / "out.png"
    Image.fromarray(drawn()).convert("CMYK").save(image, icc_profile=PROFILE)
    assert main(["filter", str(image), "--kernel", "blur", "-o", str(out)]) == 0
    with Image.open(out) as picture:
        assert "icc_profile" not in picture.info


@pytest.mark.parametrize("channels", [2, 4], ids=["gray", "colour"])
@pytest.mark.parametrize("kernel", ["laplacian", "blur"])
def test_transparency_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int, kernel: str
) -> None:
    pixels, out = drawn(channels=channels), tmp_path / "out.png"
    image = save(tmp_path / "in.png", pixels)
    assert main(["filter", image, "--kernel", kernel, "-o", str(out)]) == 0
    result = load(out)
    np.testing.assert_array_equal(result[..., -1], pixels[..., -1])
    np.testing.assert_array_equal(result[..., :-1], expected(pixels[..., :-1], kernel, "constant"))
    words = f"channels: {channels - 1} and transparency, kernel: {kernel}, mode: constant\n"
    assert capsys.readouterr().out.endswith(words)


def test_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    picture = Image.fromarray(drawn()).quantize(8)
    picture.save(tmp_path / "in.png", transparency=3)
    with Image.open(tmp_path / "in.png") as stored:
        assert stored.mode == "P"
        pixels = np.asarray(stored.convert("RGBA"))
    assert (pixels[..., 3] == 0).any()
    out = tmp_path / "out.png"
    assert main(["filter", str(tmp_path / "in.png"), "--kernel", "blur", "-o", str(out)]) == 0
    result = load(out)
    np.testing.assert_array_equal(result[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(result[..., :3], expected(pixels[..., :3], "blur", "constant"))


@pytest.mark.parametrize(
    ("channels", "target", "mode"),
    [(2, "JPEG", "L"), (4, "JPEG", "RGB"), (2, "GIF", "P"), (4, "GIF", "P")],
)
def test_formats_without_transparency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int, target: str, mode: str
) -> None:
    """JPEG and GIF files are written without transparency, and the output says so."""
    pixels, out = drawn(channels=channels), tmp_path / f"out.{target.lower()}"
    image = save(tmp_path / "in.png", pixels)
    assert main(["filter", image, "--kernel", "blur", "-o", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.mode == mode
        assert not picture.has_transparency_data
    words = f"mode: constant (transparency is left out: {target} does not hold it)\n"
    assert capsys.readouterr().out.endswith(words)


@needs_proc
@pytest.mark.exhaustive
def test_large_photograph(tmp_path: Path) -> None:
    """An image of 90 megapixels, at which Pillow warns, takes less than 1 GB in silence."""
    image, out = tmp_path / "in.png", tmp_path / "out.png"
    picture = Image.new("RGB", (10000, 9000), (10, 20, 30))
    picture.save(image, compress_level=1)
    del picture
    result = run_python(
        f"{PEAK}\n"
        "from fastconv.__main__ import main\n"
        f"code = main(['filter', {str(image)!r}, '--kernel', 'blur', '-o', {str(out)!r}])\n"
        "print(code, peak())\n"
    )
    assert result.stderr == ""
    printed, last = result.stdout.splitlines()
    assert printed.startswith(f"{out}: 10000 x 9000 pixels, ")
    code, most = map(int, last.split())
    assert code == 0
    assert most < 10**9


@pytest.mark.parametrize("limit", [62, 40, 20])
def test_images_that_are_too_large(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
) -> None:
    usual = Image.MAX_IMAGE_PIXELS
    image = save(tmp_path / "in.png", drawn())
    monkeypatch.setattr(_pictures, "MOST_PIXELS", limit)
    arguments = [image, "--kernel", "blur", "-o", str(tmp_path / "out.png")]
    words = f"{image}: the image is too large: it has more than {limit} pixels"
    assert_refused(capsys, tmp_path, arguments, words)
    monkeypatch.setattr(_pictures, "MOST_PIXELS", 63)
    assert main(["filter", *arguments]) == 0
    assert usual == Image.MAX_IMAGE_PIXELS


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
    assert "mode: constant (the first of 5 images)\n" in capsys.readouterr().out


@pytest.mark.parametrize("extension", ["gif", "tiff"])
def test_first_image_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extension: str
) -> None:
    """Only the first image is read, even if a later one is damaged; the output says so."""
    path, out = tmp_path / f"in.{extension}", tmp_path / "out.png"
    first, *others = [Image.fromarray(drawn(channels=1)[..., 0] // (i + 1)) for i in range(3)]
    first.save(path, save_all=True, append_images=others)
    arguments = ["filter", str(path), "--kernel", "blur", "-o", str(out)]
    assert main(arguments) == 0
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB" if extension == "gif" else "L"))
    known = expected(np.atleast_3d(pixels), "blur", "constant")
    np.testing.assert_array_equal(load(out), known)
    assert "mode: constant (the first of 3 images)\n" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-20])
    assert main(arguments) == 0
    np.testing.assert_array_equal(load(out), known)


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
    assert main(["filter", image, "--kernel", "blur", "-o", image, "--overwrite"]) == 0
    np.testing.assert_array_equal(load(tmp_path / "in.png"), expected(pixels, "blur", "constant"))


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_image_is_not_replaced_by_accident(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], link: str | None
) -> None:
    image = tmp_path / "in.png"
    save(image, drawn())
    out = tmp_path / "out.png" if link else image
    if link:
        getattr(out, link)(image)
    arguments = [str(image), "--kernel", "blur", "-o", str(out)]
    words = f"{out} is the image itself: add --overwrite to replace it"
    assert_refused(capsys, tmp_path, arguments, words)
    assert main(["filter", *arguments, "--overwrite"]) == 0


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
    lost = f"{damaged}: cannot read the PNG file: ", "its end is missing: copy or download it again"
    assert_refused(capsys, tmp_path, [str(damaged), *out], *lost)
    no_file = f"{missing}: No such file or directory"
    assert_refused(capsys, tmp_path, [str(missing), *out], no_file)
    assert_refused(capsys, tmp_path, [str(tmp_path), *out], f"{tmp_path}: a folder, not an image")


PNG = b"\x89PNG\r\n\x1a\n"
DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "signature alone": (lambda data: data[:8], "in.png: a damaged PNG file: "),
    "header": (lambda data: PNG + b"\xff" * 40, "in.png: a damaged PNG file: "),
    "header's check": (
        lambda data: data[:29] + b"\0\0\0\0" + data[33:],
        "make or download it again",
    ),
    "data": (
        lambda data: data[:100] + bytes(byte ^ 0xFF for byte in data[100:200]) + data[200:],
        "in.png: cannot read the PNG file: ",
    ),
    "end": (lambda data: data[: len(data) // 2], "its end is missing: copy or download it again"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_advice_for_damaged_images(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
    words: str,
) -> None:
    """The advice is about the damage, not about Pillow or other kinds of files."""
    image = tmp_path / "in.png"
    save(image, drawn(64, 64))
    image.write_bytes(damage(image.read_bytes()))
    arguments = [str(image), "--kernel", "blur", "-o", str(tmp_path / "out.png")]
    assert_refused(capsys, tmp_path, arguments, words)
    assert main(["filter", *arguments]) == 2
    error = capsys.readouterr().err
    for other in ("IDX", "Pillow", "install"):
        assert other not in error


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
        (
            ["a", "--kernel", "blur", "-o", "b.png", "--pad-mode", "zeros"],
            "argument --pad-mode: invalid choice: 'zeros'",
        ),
        (
            ["a", "--kernel", "median", "--size", "0", "-o", "b.png"],
            "argument --size: must be a whole number from 1 to 1024, got '0'",
        ),
        (
            ["a", "--kernel", "gaussian", "--sigma", "nan", "-o", "b.png"],
            "argument --sigma: must be a number above 0, got 'nan'",
        ),
        (
            ["a", "--kernel", "blur", "-o", "b.png", "--mode", "wrap", "--pad-mode", "wrap"],
            "argument --pad-mode: not allowed with argument --mode",
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
