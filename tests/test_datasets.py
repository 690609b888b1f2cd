"""Labelled images: the packaged digits, and folders of files in MNIST's format."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastconv.datasets import load_digits, load_mnist

Array = NDArray[Any]
Pair = tuple[Array, Array]

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # of the packaged digits

H, W = 7, 5


def idx(array: NDArray[np.uint8]) -> bytes:
    """Write images or labels as the format's description says, independently of the reader."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def pair(count: int, seed: int = 0, classes: int = 10) -> tuple[NDArray[np.uint8], ...]:
    """Draw images, no two of which are the same, and labels, of which all classes occur."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, H, W), np.uint8)
    images[:, 0, 0] = np.arange(count) % 256
    images[0, -1, -1] = 255
    labels = random.permutation(np.arange(count) % classes).astype(np.uint8)
    return images, labels


def write(folder: Path, **files: bytes) -> None:
    """Write files; an underscore in a name stands for the hyphens of MNIST's."""
    for name, content in files.items():
        (folder / name.replace("_", "-")).write_bytes(content)


def write_pair(folder: Path, part: str, count: int, seed: int = 0, classes: int = 10) -> Any:
    images, labels = pair(count, seed, classes)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return images, labels


def together(parts: tuple[Pair, Pair]) -> list[tuple[bytes, Any]]:
    """List all images with their labels, sorted."""
    rows = [(x.tobytes(), t.tolist()) for images, labels in parts for x, t in zip(images, labels)]
    return sorted(rows)


def assert_equal(parts: tuple[Pair, Pair], others: tuple[Pair, Pair]) -> None:
    for part, other in zip(parts, others):
        for array, expected in zip(part, other):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)


# --- The packaged digits --------------------------------------------------------------------


def test_digits() -> None:
    (x_train, t_train), (x_test, t_test) = load_digits()
    assert x_train.shape == (1438, 1, 8, 8)
    assert x_test.shape == (359, 1, 8, 8)
    assert (t_train.shape, t_test.shape) == ((1438,), (359,))
    assert t_train.dtype == t_test.dtype == np.uint8
    for images in (x_train, x_test):
        assert images.dtype == np.float32
        assert (images.min(), images.max()) == (0, 1)
        assert images.flags.c_contiguous
        assert images.flags.writeable
    assert set(t_train) == set(t_test) == set(range(10))


def test_every_digit_is_in_one_of_the_two_parts() -> None:
    (x_train, t_train), (x_test, t_test) = load_digits(normalize=False)
    images = np.concatenate([x_train, x_test])
    assert len({image.tobytes() for image in images}) == 1797
    assert images.sum(dtype=np.int64) == 561718
    assert np.bincount(np.concatenate([t_train, t_test])).tolist() == COUNTS


def test_digits_keep_their_labels() -> None:
    expected = together(load_digits(normalize=False))
    assert together(load_digits(normalize=False, seed=1)) == expected
    assert together(load_digits(normalize=False, test_fraction=0.5)) == expected


def test_seed_decides_the_split() -> None:
    first, again, other = load_digits(seed=3), load_digits(seed=3), load_digits(seed=4)
    assert_equal(first, again)
    assert not np.array_equal(first[1][0], other[1][0])


def test_arrays_belong_to_the_caller() -> None:
    first = load_digits(normalize=False)
    expected = load_digits(normalize=False)
    for part in first:
        for array in part:
            array[:] = 99
    assert_equal(load_digits(normalize=False), expected)


def test_digits_as_they_are() -> None:
    (x, t), (x_test, _) = load_digits(normalize=False)
    assert x.dtype == x_test.dtype == np.uint8
    assert (x.min(), x.max()) == (0, 16)
    (normalized, labels), _ = load_digits()
    np.testing.assert_array_equal(normalized, x / np.float32(16))
    np.testing.assert_array_equal(labels, t)


def test_digits_as_rows() -> None:
    (x, _), (x_test, _) = load_digits(flatten=True)
    assert x.shape == (1438, 64)
    assert x_test.shape == (359, 64)
    np.testing.assert_array_equal(x, load_digits()[0][0].reshape(1438, 64))


def test_one_hot_digits() -> None:
    for (_, rows), (_, labels) in zip(load_digits(one_hot_label=True), load_digits()):
        assert rows.shape == (len(labels), 10)
        assert rows.dtype == np.uint8
        np.testing.assert_array_equal(rows.sum(axis=1), 1)
        np.testing.assert_array_equal(rows.argmax(axis=1), labels)


def test_arguments_in_the_textbooks_order() -> None:
    expected = load_digits(normalize=False, flatten=True, one_hot_label=True)
    assert_equal(load_digits(False, True, True), expected)


@pytest.mark.parametrize(
    ("fraction", "count"), [(1 / 1797, 1), (0.5, 898), (1 - 1 / 1797, 1796), (0.1, 180)]
)
def test_test_fraction(fraction: float, count: int) -> None:
    (x_train, t_train), (x_test, t_test) = load_digits(test_fraction=fraction)
    assert len(x_test) == len(t_test) == count
    assert len(x_train) == len(t_train) == 1797 - count


@pytest.mark.parametrize(
    "fraction", [0, 1, -0.2, 1.5, 0.0001, 0.9999, float("nan"), float("inf"), float("-inf")]
)
def test_one_part_would_be_empty(fraction: float) -> None:
    message = f"test_fraction must leave images to train and to test with, got {fraction} of 1797"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_digits(test_fraction=fraction)


# --- Folders in MNIST's format --------------------------------------------------------------


def test_both_pairs(tmp_path: Path) -> None:
    expected = [write_pair(tmp_path, "train", 30, 1), write_pair(tmp_path, "t10k", 12, 2)]
    for part, (images, labels) in zip(load_mnist(tmp_path, normalize=False), expected):
        x, t = part
        assert x.dtype == t.dtype == np.uint8
        np.testing.assert_array_equal(x, images[:, np.newaxis])
        np.testing.assert_array_equal(t, labels)
    for part, (images, _) in zip(load_mnist(str(tmp_path)), expected):
        assert part[0].dtype == np.float32
        np.testing.assert_array_equal(part[0], images[:, np.newaxis] / np.float32(255))
        assert part[0].max() == 1


def test_options_of_both_pairs(tmp_path: Path) -> None:
    expected = [write_pair(tmp_path, "train", 30, 1), write_pair(tmp_path, "t10k", 12, 2)]
    loaded = load_mnist(tmp_path, normalize=False, flatten=True, one_hot_label=True)
    for (x, t), (images, labels) in zip(loaded, expected):
        np.testing.assert_array_equal(x, images.reshape(len(images), H * W))
        assert t.shape == (len(labels), 10)
        np.testing.assert_array_equal(t.sum(axis=1), 1)
        np.testing.assert_array_equal(t.argmax(axis=1), labels)
    assert_equal(load_mnist(tmp_path, False, True, True), loaded)
    # With both pairs there is nothing to split.
    assert_equal(load_mnist(tmp_path, False, True, True, test_fraction=0.5, seed=7), loaded)


@pytest.mark.parametrize("compress", [True, False], ids=["gzipped", "plain"])
@pytest.mark.parametrize(
    "form",
    ["{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte", "{}"],
)
def test_names_and_compression(tmp_path: Path, form: str, compress: bool) -> None:
    """The content of a file, not its name, shows whether it is gzipped."""
    images, labels = pair(10)
    for part in ("train", "t10k"):
        for what, axes, array in (("images", 3, images), ("labels", 1, labels)):
            content = idx(array)
            name = form.format(f"{part}-{what}", axes)
            (tmp_path / name).write_bytes(gzip.compress(content) if compress else content)
    for x, t in load_mnist(tmp_path, normalize=False):
        np.testing.assert_array_equal(x[:, 0], images)
        np.testing.assert_array_equal(t, labels)


def test_plain_file_before_a_gzipped_one(tmp_path: Path) -> None:
    images, _ = write_pair(tmp_path, "train", 10)
    write_pair(tmp_path, "t10k", 10)
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(idx(255 - images)))
    (tmp_path / f"{TRAIN_LABELS}.gz").write_bytes(b"not even looked at")
    np.testing.assert_array_equal(load_mnist(tmp_path, False)[0][0][:, 0], images)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 10)
    write_pair(tmp_path, "t10k", 10)
    expected = load_mnist(tmp_path)
    (tmp_path / "README.txt").write_text("train-images, train-labels")
    (tmp_path / "extra-train-images-idx3-ubyte").write_text("of another data set")
    (tmp_path / "pictures").mkdir()
    assert_equal(load_mnist(tmp_path), expected)


def test_folders_are_no_files(tmp_path: Path) -> None:
    """Some archives unpack into a folder of the same name beside each file."""
    images, labels = pair(10)
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").mkdir()
        (tmp_path / f"{part}-labels-idx1-ubyte").mkdir()
        (tmp_path / f"{part}-images.idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels.idx1-ubyte").write_bytes(idx(labels))
    np.testing.assert_array_equal(load_mnist(tmp_path, False)[0][0][:, 0], images)


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_pair_is_split(tmp_path: Path, part: str) -> None:
    images, labels = write_pair(tmp_path, part, 50)
    parts = load_mnist(tmp_path, normalize=False)
    assert [(x.shape, t.shape) for x, t in parts] == [
        ((40, 1, H, W), (40,)),
        ((10, 1, H, W), (10,)),
    ]
    everything = images[:, np.newaxis]
    assert together(parts) == together(((everything, labels), (everything[:0], labels[:0])))
    assert_equal(load_mnist(tmp_path, normalize=False, seed=0), parts)
    other = load_mnist(tmp_path, normalize=False, seed=1)
    assert not np.array_equal(other[1][0], parts[1][0])
    assert together(other) == together(parts)
    assert len(load_mnist(tmp_path, test_fraction=0.5)[1][0]) == 25


@pytest.mark.parametrize(("fraction", "count"), [(0.02, 1), (0.98, 49)])
def test_limits_of_a_split(tmp_path: Path, fraction: float, count: int) -> None:
    write_pair(tmp_path, "train", 50)
    assert len(load_mnist(tmp_path, test_fraction=fraction)[1][0]) == count


@pytest.mark.parametrize("fraction", [0, 1, 0.001])
def test_split_without_a_part(tmp_path: Path, fraction: float) -> None:
    write_pair(tmp_path, "train", 50)
    with pytest.raises(ValueError, match=f"must leave images .* got {fraction} of 50"):
        load_mnist(tmp_path, test_fraction=fraction)


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 1)
    with pytest.raises(ValueError, match=r"must leave images .* got 0\.2 of 1"):
        load_mnist(tmp_path)


def test_more_than_ten_classes(tmp_path: Path) -> None:
    """EMNIST has up to 62 classes; a class that only one part contains has a column, too."""
    write_pair(tmp_path, "train", 120, 1, classes=47)
    _, labels = write_pair(tmp_path, "t10k", 120, 2, classes=62)
    (_, t_train), (_, t_test) = load_mnist(tmp_path)
    assert (t_train.max(), t_test.max()) == (46, 61)
    (_, rows_train), (_, rows_test) = load_mnist(tmp_path, one_hot_label=True)
    assert rows_train.shape == rows_test.shape == (120, 62)
    np.testing.assert_array_equal(rows_test.argmax(axis=1), labels)


def test_largest_label(tmp_path: Path) -> None:
    images, labels = pair(10)
    labels[3] = 255
    write(tmp_path, train_images=idx(images), train_labels=idx(labels))
    parts = load_mnist(tmp_path, one_hot_label=True)
    assert {t.shape[1] for _, t in parts} == {256}


# --- Errors ---------------------------------------------------------------------------------

IMAGES, LABELS = map(idx, pair(10))

BAD_IMAGES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an IDX file of images: it begins with nothing, expected 00 00 08 03"),
    "other": (b"Hello, world", "not an IDX file of images: it begins with 48 65 6c 6c"),
    "labels": (LABELS, "begins with 00 00 08 01 (an IDX file of labels), expected 00 00 08 03"),
    "floats": (b"\0\0\x0d\x03" + IMAGES[4:], "begins with 00 00 0d 03, expected 00 00 08 03"),
    "header truncated": (IMAGES[:15], "truncated: its header has 15 of 16 bytes"),
    "magic number only": (IMAGES[:4], "truncated: its header has 4 of 16 bytes"),
    "header only": (
        IMAGES[:16],
        "truncated: the header announces 10 images of 7 x 5 = 350 bytes, but 0 follow",
    ),
    "pixels missing": (
        IMAGES[:-1],
        "truncated: the header announces 10 images of 7 x 5 = 350 bytes, but 349 follow",
    ),
    "too long": (
        IMAGES + b"\0",
        "wrong size: the header announces 10 images of 7 x 5 = 350 bytes, but more follow",
    ),
    "absurd sizes": (IMAGES[:4] + b"\xff" * 12 + IMAGES[16:], "4294967295 x 4294967295"),
    "no images": (
        b"\0\0\x08\x03" + np.array((0, H, W), ">u4").tobytes(),
        "no pixels: the header announces 0 images of 7 x 5",
    ),
    "no pixels": (
        b"\0\0\x08\x03" + np.array((10, 0, W), ">u4").tobytes(),
        "no pixels: the header announces 10 images of 0 x 5",
    ),
    "gzip truncated": (gzip.compress(IMAGES)[:-20], "damaged gzip file"),
    "gzip header only": (gzip.compress(IMAGES)[:6], "damaged gzip file"),
    "gzip checksum": (gzip.compress(IMAGES)[:-8] + b"\0" * 8, "damaged gzip file: CRC"),
    "gzip data": (gzip.compress(IMAGES)[:10] + b"\xff" * 400, "damaged gzip file"),
    "gzip of labels": (gzip.compress(LABELS), "(an IDX file of labels)"),
    "gzip short": (gzip.compress(IMAGES[:-7]), "= 350 bytes, but 343 follow"),
    "gzip long": (gzip.compress(IMAGES + b"\0"), "= 350 bytes, but more follow"),
}

BAD_LABELS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not an IDX file of labels: it begins with nothing, expected 00 00 08 01"),
    "images": (IMAGES, "begins with 00 00 08 03 (an IDX file of images), expected 00 00 08 01"),
    "header truncated": (LABELS[:7], "truncated: its header has 7 of 8 bytes"),
    "labels missing": (
        LABELS[:-3],
        "truncated: the header announces 10 labels = 10 bytes, but 7 follow",
    ),
    "too long": (LABELS + b"\0", "wrong size: the header announces 10 labels = 10 bytes"),
    "no labels": (b"\0\0\x08\x01\0\0\0\0", "no labels: the header announces 0 labels"),
    "gzip truncated": (gzip.compress(LABELS)[:-3], "damaged gzip file"),
}


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize(("content", "words"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_bad_images(tmp_path: Path, content: bytes, words: str, part: str) -> None:
    write_pair(tmp_path, "train", 10)
    write_pair(tmp_path, "t10k", 10)
    path = tmp_path / f"{part}-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_mnist(tmp_path)
    assert str(caught.value).startswith(f"load_mnist: {path}: ")


@pytest.mark.parametrize(("content", "words"), BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_bad_labels(tmp_path: Path, content: bytes, words: str) -> None:
    write_pair(tmp_path, "train", 10)
    path = tmp_path / TRAIN_LABELS
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        load_mnist(tmp_path)
    assert str(caught.value).startswith(f"load_mnist: {path}: ")


def test_damaged_anywhere(tmp_path: Path) -> None:
    """A changed byte in a gzipped file raises an error with its name, or changes no image."""
    write_pair(tmp_path, "train", 10)
    expected = load_mnist(tmp_path)
    path = tmp_path / TRAIN_IMAGES
    content = gzip.compress(path.read_bytes())
    for place in range(len(content)):
        for bit in (0, 2, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                parts = load_mnist(tmp_path)
            except ValueError as error:
                assert str(error).startswith(f"load_mnist: {path}: ")  # noqa: PT017
            else:
                assert_equal(parts, expected)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        load_mnist(tmp_path / "missing")


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / TRAIN_IMAGES).write_bytes(IMAGES)
    with pytest.raises(NotADirectoryError, match=TRAIN_IMAGES):
        load_mnist(tmp_path / TRAIN_IMAGES)


def test_no_files(tmp_path: Path) -> None:
    message = (
        f"{tmp_path}: no files called train-images..., train-labels..., t10k-images... and "
        "t10k-labels..., or one of the two pairs"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path)
    (tmp_path / "images").write_bytes(IMAGES)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path)


@pytest.mark.parametrize("other_pair", [True, False])
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (TRAIN_IMAGES, "train-labels"),
        (TRAIN_LABELS, "train-images"),
        (TEST_IMAGES, "t10k-labels"),
        (TEST_LABELS, "t10k-images"),
    ],
)
def test_half_a_pair(tmp_path: Path, name: str, missing: str, other_pair: bool) -> None:
    part = name.split("-")[0]
    if other_pair:
        write_pair(tmp_path, "t10k" if part == "train" else "train", 10)
    (tmp_path / name).write_bytes(IMAGES if "images" in name else LABELS)
    message = f"{tmp_path}: there are {part}-... files, but no {missing}..."
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path)


def test_images_and_labels_exchanged(tmp_path: Path) -> None:
    write(tmp_path, train_images=LABELS, train_labels=IMAGES)
    with pytest.raises(ValueError, match=r"train-images: not an IDX .*of labels"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("count", [9, 11])
def test_counts_do_not_match(tmp_path: Path, count: int) -> None:
    write_pair(tmp_path, "train", 10)
    write_pair(tmp_path, "t10k", 10)
    (tmp_path / TEST_LABELS).write_bytes(idx(pair(count)[1]))
    message = (
        f"{tmp_path / TEST_IMAGES} and {tmp_path / TEST_LABELS} do not belong together: 10 images, "
        f"{count} labels"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path)


def test_images_of_two_sizes(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 10)
    write_pair(tmp_path, "t10k", 10)
    (tmp_path / TEST_IMAGES).write_bytes(idx(np.zeros((10, H, W + 1), np.uint8)))
    message = f"{tmp_path}: images to train with are of 7 x 5 pixels, those to test with of 7 x 6"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_mnist(tmp_path)


def _forbid(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


def _break(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions and links")
@pytest.mark.parametrize("spoil", [_forbid, _break])
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TRAIN_LABELS])
def test_unreadable_file(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    write_pair(tmp_path, "train", 10)
    spoil(tmp_path / name)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / name))):
        load_mnist(tmp_path)


# --- The real files -------------------------------------------------------------------------


def test_mnist() -> None:
    folder = os.environ.get("FASTCONV_MNIST")
    if folder is None:
        pytest.skip("FASTCONV_MNIST does not name a folder with t10k-images-idx3-ubyte.gz")
    parts = load_mnist(folder, normalize=False)
    (x_train, t_train), (x_test, t_test) = parts
    assert x_train.shape[1:] == x_test.shape[1:] == (1, 28, 28)
    if len(x_train) == 8000:  # t10k-... alone, a fifth of which is for testing
        x, t = np.concatenate([x_train, x_test]), np.concatenate([t_train, t_test])
    else:
        x, t = x_test, t_test
    assert len(x) == len(t) == 10000
    assert (x.min(), x.max()) == (0, 255)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(t).tolist() == counts
    assert len({image.tobytes() for image in x}) == 10000
