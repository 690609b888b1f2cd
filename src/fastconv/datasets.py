"""Labelled images: the packaged digits, MNIST's format, CIFAR, folders. Nothing is downloaded."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastconv import _image_folder
from fastconv._arguments import IntPair, generator, not_negative, number, one_of, pair
from fastconv._cifar import CIFAR_10, CIFAR_100, read_cifar, read_names
from fastconv._errors import argument_error, named
from fastconv._files import path_of
from fastconv._idx import IMAGES, LABELS, read_idx
from fastconv._pictures import MOST_PIXELS, pillow

__all__ = [
    "load_cifar10",
    "load_cifar100",
    "load_cifar_names",
    "load_digits",
    "load_image_folder",
    "load_mnist",
]

Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = tuple[Array, Array]

TRAIN, TEST = "train", "t10k"
"""The beginnings of the names of MNIST's files, for training and for testing."""
CIFAR_LABELS = ("coarse", "fine")
"""The labels of CIFAR-100, in the order of its files."""


@named
def load_digits(
    normalize: bool = True,
    flatten: bool = False,
    one_hot_label: bool = False,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[Pair, Pair]:
    """Load the packaged 1,797 handwritten digits of 8 x 8 pixels.

    Parameters
    ----------
    normalize : bool, default True
        Give pixels as float32 from 0 (paper) to 1 (ink) instead of uint8 from 0 to 16.
    flatten : bool, default False
        Give images as rows (N, 64) instead of (N, 1, 8, 8).
    one_hot_label : bool, default False
        Give labels as rows of ten, 1 for the digit and 0 elsewhere.
    test_fraction : float, default 0.2
        Fraction of the images that is for testing: more than 0 and less than 1.
    seed : int, default 0
        Seed of the random choice of those images.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of ndarray
        Images and labels, labels as uint8.

    Raises
    ------
    ValueError
        If one of the two parts would be empty.

    Notes
    -----
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, CC BY 4.0.

    Examples
    --------
    >>> from fastconv.datasets import load_digits
    >>> (x_train, t_train), (x_test, t_test) = load_digits()
    >>> x_train.shape, t_test.shape
    ((1438, 1, 8, 8), (359,))
    """
    parts = _split(*packaged_digits(), test_fraction, seed)
    return _prepared(parts, 16 if normalize else None, flatten, one_hot_label)


@named
def load_mnist(
    folder: str | os.PathLike[str],
    normalize: bool = True,
    flatten: bool = False,
    one_hot_label: bool = False,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[Pair, Pair]:
    """Load images and labels in MNIST's format, for instance Fashion-MNIST, from a folder.

    Parameters
    ----------
    folder : path-like
        Where files called ``train-images...``, ``train-labels...``, ``t10k-images...`` and
        ``t10k-labels...`` lie, gzipped or not. If there is only one of the two pairs, a part of it
        is for testing.
    normalize : bool, default True
        Give pixels as float32 from 0 to 1 instead of uint8 from 0 to 255.
    flatten : bool, default False
        Give images as rows (N, H*W) instead of (N, 1, H, W).
    one_hot_label : bool, default False
        Give labels as rows, 1 for the class and 0 elsewhere.
    test_fraction : float, default 0.2
        Fraction of a single pair that is for testing: more than 0 and less than 1.
    seed : int, default 0
        Seed of the random choice of those images.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of ndarray
        Images and labels, labels as uint8.

    Raises
    ------
    OSError
        If the folder or a file cannot be read.
    ValueError
        If files are missing, damaged, of the wrong kind, or do not fit each other.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastconv.datasets import load_mnist
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name)  # Three images of 2 x 2 pixels, and their labels.
    ...     images = bytes([0, 0, 8, 3] + [0, 0, 0, 3] + 2 * [0, 0, 0, 2]) + bytes(range(12))
    ...     labels = bytes([0, 0, 8, 1] + [0, 0, 0, 3]) + bytes([7, 0, 1])
    ...     n = (folder / "train-images").write_bytes(images)
    ...     n = (folder / "train-labels").write_bytes(labels)
    ...     (x_train, t_train), (x_test, t_test) = load_mnist(folder, test_fraction=0.3)
    >>> x_train.shape, x_test.shape
    ((2, 1, 2, 2), (1, 1, 2, 2))
    """
    root = Path(path_of(folder, "folder"))
    found = {part: _read_pair(root, part) for part in (TRAIN, TEST)}
    pairs = [pair for pair in found.values() if pair]
    if not pairs:
        raise argument_error(
            ValueError,
            f"{root}: no files called {TRAIN}-images..., {TRAIN}-labels..., {TEST}-images... and "
            f"{TEST}-labels..., or one of the two pairs",
        )
    if len(pairs) == 1:
        parts = _split(*pairs[0], test_fraction, seed)
    else:
        parts = pairs[0], pairs[1]
        sizes = ["{} x {}".format(*images.shape[2:]) for images, _ in parts]
        if sizes[0] != sizes[1]:
            raise argument_error(
                ValueError,
                f"{root}: images to train with are of {sizes[0]} pixels, those to test with of "
                f"{sizes[1]}",
            )
    return _prepared(parts, 255 if normalize else None, flatten, one_hot_label)


@named
def load_cifar10(
    path: str | os.PathLike[str],
    normalize: bool = True,
    flatten: bool = False,
    one_hot_label: bool = False,
) -> tuple[Pair, Pair]:
    """Load the images of CIFAR-10: ten classes, 32 x 32 pixels in colour.

    The binary version and the Python version give the same arrays. Safe for files from anywhere:
    the pickles of the Python version are not unpickled, an archive is not unpacked to the disk, and
    all sizes are bounded.

    Parameters
    ----------
    path : path-like
        A folder with the six files ``data_batch_1.bin`` to ``test_batch.bin`` (binary version) or
        ``data_batch_1`` to ``test_batch`` (Python version), or the .tar.gz file with either.
    normalize : bool, default True
        Give pixels as float32 from 0 to 1 instead of uint8 from 0 to 255.
    flatten : bool, default False
        Give images as rows (N, 3072) instead of (N, 3, 32, 32).
    one_hot_label : bool, default False
        Give labels as rows of ten, 1 for the class and 0 elsewhere.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of ndarray
        Images and labels, labels as uint8.

    Raises
    ------
    OSError
        If the folder or a file cannot be read.
    ValueError
        If files are missing or damaged.

    See Also
    --------
    load_cifar_names : Load the names of the classes.

    Notes
    -----
    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastconv.datasets import load_cifar10
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
    ...         n = pathlib.Path(name, file).write_bytes(bytes([7]) + bytes(3072))  # one image
    ...     (x_train, t_train), (x_test, t_test) = load_cifar10(name)
    >>> x_train.shape, t_train.tolist()
    ((5, 3, 32, 32), [7, 7, 7, 7, 7])
    """
    train, test = read_cifar(path_of(path, "path"), CIFAR_10)
    return _prepared((train, test), 255 if normalize else None, flatten, one_hot_label, 10)


@named
def load_cifar100(
    path: str | os.PathLike[str],
    normalize: bool = True,
    flatten: bool = False,
    one_hot_label: bool = False,
    *,
    labels: str = "fine",
) -> tuple[Pair, Pair]:
    """Load the images of CIFAR-100: a hundred classes, 32 x 32 pixels in colour.

    Files are read as safely as those of `load_cifar10`.

    Parameters
    ----------
    path : path-like
        A folder with the files ``train.bin`` and ``test.bin`` (binary version) or ``train`` and
        ``test`` (Python version), or the .tar.gz file with either.
    normalize : bool, default True
        Give pixels as float32 from 0 to 1 instead of uint8 from 0 to 255.
    flatten : bool, default False
        Give images as rows (N, 3072) instead of (N, 3, 32, 32).
    one_hot_label : bool, default False
        Give labels as rows, 1 for the class and 0 elsewhere.
    labels : {"fine", "coarse"}
        Which labels to give: the hundred classes, or the twenty groups that they belong to.

    Returns
    -------
    (x_train, t_train), (x_test, t_test) : tuples of ndarray
        Images and labels, labels as uint8.

    Raises
    ------
    OSError
        If the folder or a file cannot be read.
    ValueError
        If files are missing or damaged.

    See Also
    --------
    load_cifar_names : Load the names of the classes.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastconv.datasets import load_cifar100
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for file in ("train.bin", "test.bin"):
    ...         n = pathlib.Path(name, file).write_bytes(bytes([4, 30]) + bytes(3072))  # one image
    ...     (x_train, t_train), (x_test, t_test) = load_cifar100(name, labels="coarse")
    >>> x_train.shape, t_train.tolist()
    ((1, 3, 32, 32), [4])
    """
    which = CIFAR_LABELS.index(one_of(labels, "labels", CIFAR_LABELS))
    train, test = read_cifar(path_of(path, "path"), CIFAR_100, which)
    classes = CIFAR_100.labels[which].classes
    return _prepared((train, test), 255 if normalize else None, flatten, one_hot_label, classes)


@named
def load_cifar_names(path: str | os.PathLike[str], *, labels: str = "fine") -> tuple[str, ...]:
    r"""Load the names of the classes of CIFAR-10 or CIFAR-100.

    Parameters
    ----------
    path : path-like
        A folder with the file of names, ``batches.meta.txt`` or ``fine_label_names.txt`` (binary
        version), ``batches.meta`` or ``meta`` (Python version), or the .tar.gz file with it.
    labels : {"fine", "coarse"}
        Which labels of CIFAR-100 to name; those of CIFAR-10 are called "fine", too.

    Returns
    -------
    tuple of str
        A name for every label.

    Raises
    ------
    OSError
        If the folder or the file cannot be read.
    ValueError
        If the file is missing or damaged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastconv.datasets import load_cifar_names
    >>> with tempfile.TemporaryDirectory() as name:
    ...     words = "airplane automobile bird cat deer dog frog horse ship truck".split()
    ...     n = pathlib.Path(name, "batches.meta.txt").write_text("\n".join(words))
    ...     load_cifar_names(name)[:3]
    ('airplane', 'automobile', 'bird')
    """
    return read_names(path_of(path, "path"), one_of(labels, "labels", CIFAR_LABELS))


@named
def load_image_folder(
    path: str | os.PathLike[str],
    size: IntPair | None = None,
    *,
    gray: bool = False,
    workers: SupportsIndex | None = None,
    progress: bool = False,
) -> tuple[Array, Array, tuple[str, ...]]:
    """Load image files from a folder that holds a folder for every class; needs Pillow.

    Photographs are turned upright as their EXIF data says. Pixels of 16 bits are rounded to 8 bits.
    Transparency is left out, so that transparent pixels show their colours. Of an animation, the
    first image is read. Files whose names do not end as those of images do (.bmp, .gif, .jpeg,
    .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp) and hidden files are not read.

    Parameters
    ----------
    path : path-like
        The folder. The images of a class may lie in folders within that of the class.
    size : int or pair of ints, optional
        The size that all images are resized to, whatever the ratio of their sides was, with
        Pillow's bilinear filter; an int stands for both height and width. By default all images
        must have one size.
    gray : bool, default False
        Give images of one channel, of the brightness, instead of red, green and blue.
    workers : int, optional
        Number of processes that decode; 0 decodes in this one. The default is the number of threads
        that `get_num_threads` tells, and 0 if there are few images.
    progress : bool, default False
        Show a bar on standard error if it is a terminal and `tqdm` is installed.

    Returns
    -------
    images : ndarray of uint8, shape (N, C, H, W)
        All images, class by class, and within a class sorted by their paths.
    labels : ndarray of int64, shape (N,)
        The place of the class of every image among the names.
    names : tuple of str
        The names of the folders of the classes, sorted.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    OSError
        If a folder or a file cannot be read.
    ValueError
        If a file is no image or damaged, or has more than 268,435,456 pixels, if images differ in
        size, or if a class has none.
    RuntimeError
        If a process has ended before its work was done.

    Notes
    -----
    Processes start as `multiprocessing` starts them by default or has been told to. Where that is
    not "fork", which it is on Linux up to Python 3.13, a script must call this function below
    ``if __name__ == "__main__":``, as it must for everything that starts processes.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from fastconv.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, color in (("sky", "blue"), ("grass", "green")):
    ...         pathlib.Path(folder, name).mkdir()
    ...         Image.new("RGB", (40, 30), color).save(pathlib.Path(folder, name, "1.png"))
    ...     images, labels, names = load_image_folder(folder, size=(24, 32))
    >>> images.shape, labels.tolist(), names
    ((2, 3, 24, 32), [0, 1], ('grass', 'sky'))
    """
    pillow("load_image_folder")
    root = path_of(path, "path")
    wanted = None if size is None else pair(size, "size")
    if wanted is not None and wanted[0] * wanted[1] > MOST_PIXELS:
        raise argument_error(
            ValueError, f"size must be of at most {MOST_PIXELS:,} pixels, got {size}"
        )
    processes = None if workers is None else not_negative(workers, "workers")
    files, labels, names = _image_folder.find_images(root)
    images = _image_folder.read_images(files, wanted, bool(gray), processes, bool(progress))
    return images, labels, names


def packaged_digits() -> Pair:
    """Read the packaged digits: images (1797, 1, 8, 8) from 0 (paper) to 16 (ink), and labels.

    ``data/ATTRIBUTION.md`` says where they come from.
    """
    packed = resources.files("fastconv").joinpath("data", "digits.npz")
    with packed.open("rb") as file, np.load(file) as archive:
        return archive["images"][:, np.newaxis], archive["labels"]


def _read_pair(folder: Path, part: str) -> Pair | None:
    """Read images and labels; None if there are neither."""
    names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    files = [
        [folder / name for name in names if name.startswith(f"{part}-{what}")]
        for what in ("images", "labels")
    ]
    if not any(files):
        return None
    for what, paths in zip(("images", "labels"), files):
        if not paths:
            raise argument_error(
                ValueError, f"{folder}: there are {part}-... files, but no {part}-{what}..."
            )
    (image_file, *_), (label_file, *_) = files  # A plain file comes before a gzipped one.
    images, labels = read_idx(image_file, IMAGES), read_idx(label_file, LABELS)
    if len(images) != len(labels):
        raise argument_error(
            ValueError,
            f"{image_file} and {label_file} do not belong together: {len(images)} images, "
            f"{len(labels)} labels",
        )
    return images[:, np.newaxis], labels


def _split(images: Array, labels: Array, test_fraction: float, seed: int) -> tuple[Pair, Pair]:
    """Draw the images to test with."""
    part = number(test_fraction, "test_fraction")
    count = round(len(images) * part) if 0 < part < 1 else 0
    if not 0 < count < len(images):
        raise argument_error(
            ValueError,
            f"test_fraction must leave images to train and to test with, got {test_fraction} of "
            f"{len(images)}",
        )
    order = generator(seed).permutation(len(images))
    test, train = np.sort(order[:count]), np.sort(order[count:])
    return (images[train], labels[train]), (images[test], labels[test])


def _prepared(
    parts: tuple[Pair, Pair],
    largest: int | None,
    flatten: bool,
    one_hot_label: bool,
    classes: int | None = None,
) -> tuple[Pair, Pair]:
    if classes is None:
        classes = 1 + max(int(labels.max()) for _, labels in parts)

    def prepared(images: Array, labels: Array) -> Pair:
        if largest is not None:
            images = images.astype(np.float32)
            images /= largest
        if flatten:
            images = images.reshape(len(images), -1)
        if one_hot_label:
            labels = np.eye(classes, dtype=np.uint8)[labels]
        return images, labels

    (train, test) = parts
    return prepared(*train), prepared(*test)
