"""CIFAR-10 and CIFAR-100 in every form they come in, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PEAK, Array, memory_bounded, needs_proc, run_python

from fastconv import _cifar
from fastconv.datasets import load_cifar10, load_cifar100, load_cifar_names

TRAIN_10 = [f"data_batch_{i}" for i in range(1, 6)]
NAMES_10 = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]
FINE = [f"fine_{i}" for i in range(100)]
COARSE = [f"coarse {i}" for i in range(20)]

Files = dict[str, bytes]
Batch = dict[str, Array]


def batch(count: int, seed: int) -> Batch:
    """Draw images, and labels of all three kinds."""
    random = np.random.default_rng(seed)
    return {
        "data": random.integers(0, 256, (count, 3072), np.uint8),
        "labels": random.integers(0, 10, count),
        "coarse_labels": random.integers(0, 20, count),
        "fine_labels": random.integers(0, 100, count),
    }


def batches(kind: int) -> dict[str, Batch]:
    """Draw the batches of a data set, the first of 3 images, the next of 4 and so on."""
    names = [*TRAIN_10, "test_batch"] if kind == 10 else ["train", "test"]
    return {name: batch(3 + i, i) for i, name in enumerate(names)}


def keys(kind: int) -> list[str]:
    return ["labels"] if kind == 10 else ["coarse_labels", "fine_labels"]


def python_2(value: Any) -> bytes:
    """Write a value as Python 2 and the NumPy of its time did in protocol 2: texts are bytes."""
    if isinstance(value, dict):
        items = b"".join(python_2(key.encode()) + python_2(item) for key, item in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python_2, value)) + b"e"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return python_2(value.encode())
    if isinstance(value, bytes):
        short = len(value) < 256
        return (
            b"U" + bytes([len(value)]) if short else b"T" + struct.pack("<i", len(value))
        ) + value
    array: Array = value
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02" + array.dtype.str[1:].encode() + b"K\x00K\x01\x87R"
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(map(python_2, array.shape))
    return (
        made
        + b"(K\x01("
        + shape
        + b"t"
        + dtype
        + state
        + b"\x89"
        + python_2(array.tobytes())
        + b"tb"
    )


def content(part: Batch, kind: int) -> dict[str, Any]:
    """Return what a pickled batch holds, which is more than is read."""
    labels = {key: part[key].tolist() for key in keys(kind)}
    names = [f"image_{i}.png" for i in range(len(part["data"]))]
    return {"batch_label": "a batch", **labels, "data": part["data"], "filenames": names}


def with_bytes(value: dict[str, Any]) -> dict[bytes, Any]:
    return {key.encode(): item for key, item in value.items()}


def python_3(value: dict[str, Any], protocol: int, bytes_as_names: bool) -> bytes:
    """Write a value as a program does that has read such a file and writes it anew."""
    return pickle.dumps(with_bytes(value) if bytes_as_names else value, protocol)


PICKLERS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "python-2": lambda value: b"\x80\x02" + python_2(value) + b".",
    **{
        f"python-3-{kind}-{protocol}": partial(
            python_3, protocol=protocol, bytes_as_names=kind == "bytes"
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        for kind in ("bytes", "text")
    },
}


def pickled(kind: int, pickler: str = "python-2") -> Files:
    write = PICKLERS[pickler]
    names = {"label_names": NAMES_10, "num_vis": 3072}
    if kind == 100:
        names = {"fine_label_names": FINE, "coarse_label_names": COARSE}
    return {
        **{name: write(content(part, kind)) for name, part in batches(kind).items()},
        "batches.meta" if kind == 10 else "meta": write(names),
    }


def binary(kind: int) -> Files:
    """Write records as the description of the format says."""
    files = {
        f"{name}.bin": b"".join(
            bytes([*(part[key][i] for key in keys(kind))]) + part["data"][i].tobytes()
            for i in range(len(part["data"]))
        )
        for name, part in batches(kind).items()
    }
    if kind == 10:
        return {**files, "batches.meta.txt": "\n".join([*NAMES_10, "", ""]).encode()}
    return {
        **files,
        "fine_label_names.txt": "\n".join(FINE).encode(),
        "coarse_label_names.txt": "\r\n".join([*COARSE, ""]).encode(),
    }


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def archived(files: Mapping[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """Write an archive as those of the data sets are: all files in one folder."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        folder = tarfile.TarInfo("cifar")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, 1)


FORMS: dict[str, Callable[[Path, Files], Path]] = {
    "folder": lambda path, files: write_folder(path / "folder", files),
    "tar.gz": lambda path, files: write_file(path / "a.tar.gz", compressed(archived(files))),
    "tar": lambda path, files: write_file(path / "a", archived(files, tarfile.PAX_FORMAT)),
}


def write_file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def load(kind: int, path: Any, **options: Any) -> Any:
    return (load_cifar10 if kind == 10 else load_cifar100)(path, **options)


def expected(kind: int, key: str) -> list[tuple[Array, Array]]:
    *train, test = batches(kind).values()
    return [
        (
            np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32),
            np.concatenate([part[key] for part in parts]),
        )
        for parts in (train, [test])
    ]


def assert_loaded(parts: Any, known: list[tuple[Array, Array]]) -> None:
    for (x, t), (images, labels) in zip(parts, known, strict=True):
        assert x.dtype == t.dtype == np.uint8
        np.testing.assert_array_equal(x, images)
        np.testing.assert_array_equal(t, labels)
        for array in (x, t):
            assert array.flags.c_contiguous
            assert array.flags.writeable


# --- Whole files ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("files", [binary, pickled], ids=["binary", "python"])
@pytest.mark.parametrize("kind", [10, 100])
def test_every_version_gives_the_same(tmp_path: Path, kind: int, files: Any, form: str) -> None:
    path = FORMS[form](tmp_path, files(kind))
    before = sorted(tmp_path.rglob("*"))
    assert_loaded(load(kind, path, normalize=False), expected(kind, keys(kind)[-1]))
    assert_loaded(load(kind, str(path), normalize=False), expected(kind, keys(kind)[-1]))
    if kind == 100:
        coarse = load_cifar100(path, False, labels="coarse")
        assert_loaded(coarse, expected(kind, "coarse_labels"))
        assert load_cifar_names(path, labels="coarse") == tuple(COARSE)
    assert load_cifar_names(path) == tuple(NAMES_10 if kind == 10 else FINE)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("pickler", PICKLERS)
@pytest.mark.parametrize("kind", [10, 100])
def test_pickles_of_every_version(tmp_path: Path, kind: int, pickler: str) -> None:
    write_folder(tmp_path, pickled(kind, pickler))
    assert_loaded(load(kind, tmp_path, normalize=False), expected(kind, keys(kind)[-1]))
    assert load_cifar_names(tmp_path) == tuple(NAMES_10 if kind == 10 else FINE)


def test_pickles_of_python_2_are_pickles() -> None:
    part = content(batch(2, 0), 10)
    read = pickle.loads(PICKLERS["python-2"](part), encoding="bytes")
    assert read.keys() == with_bytes(part).keys()
    assert read[b"labels"] == part["labels"]
    np.testing.assert_array_equal(read[b"data"], part["data"])


def test_labels_that_are_arrays(tmp_path: Path) -> None:
    files = pickled(10)
    part = batch(4, 9)
    files["test_batch"] = pickle.dumps({"data": part["data"], "labels": part["labels"]})
    test = load_cifar10(write_folder(tmp_path, files), normalize=False)[1]
    np.testing.assert_array_equal(test[1], part["labels"])


@pytest.mark.parametrize(("kind", "classes"), [(10, 10), (100, 100)])
def test_options(tmp_path: Path, kind: int, classes: int) -> None:
    path = write_folder(tmp_path, binary(kind))
    known = expected(kind, keys(kind)[-1])
    for (x, _), (images, _) in zip(load(kind, path), known):
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, images / np.float32(255))
    for (x, t), (images, labels) in zip(load(kind, path, flatten=True, one_hot_label=True), known):
        assert x.shape == (len(images), 3072)
        # Every class has a column, even if it has no image.
        assert t.shape == (len(images), classes)
        assert t.dtype == np.uint8
        np.testing.assert_array_equal(t.sum(axis=1), 1)
        np.testing.assert_array_equal(t.argmax(axis=1), labels)
    if kind == 100:
        coarse = load_cifar100(path, one_hot_label=True, labels="coarse")
        assert [t.shape[1] for _, t in coarse] == [20, 20]


def test_other_files_and_versions_are_left_alone(tmp_path: Path) -> None:
    """A whole version is read even if another one beside it is not."""
    files = {**pickled(10), "readme.html": b"<html>", "data_batch_1.bin": b"damaged"}
    assert_loaded(load_cifar10(write_folder(tmp_path, files), False), expected(10, "labels"))
    data = compressed(archived({**files, "._data_batch_2": b"", "data_batch_9": b""}))
    archive = write_file(tmp_path / "archive", data)
    assert_loaded(load_cifar10(archive, False), expected(10, "labels"))


def test_paths_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    """Only the last part of a member's path counts, and nothing is written."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for i, (name, data) in enumerate(binary(10).items()):
            info = tarfile.TarInfo(("../" * 5 if i % 2 else "/") + f"tmp/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (tmp_path / "in").mkdir()
    path = write_file(tmp_path / "in" / "archive", file.getvalue())
    assert_loaded(load_cifar10(path, False), expected(10, "labels"))
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "archive"]


# --- Errors ---------------------------------------------------------------------------------


def refuse(path: Path, kind: int, *words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        load(kind, path)
    message = str(caught.value)
    assert message.startswith(f"load_cifar{kind}: {path}"), message
    assert len(message) < 1000
    for word in words:
        assert word in message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [0, 1, 2, 3072, 3073, 3074, 2 * 3073 - 1, 3 * 3073 - 1])
def test_truncated_binary_files(tmp_path: Path, cut: int, form: str) -> None:
    for kind, name in ((10, "data_batch_3.bin"), (100, "train.bin")):
        files = binary(kind)
        files[name] = files[name][:cut]
        path = FORMS[form](tmp_path, files)
        record = 3073 if kind == 10 else 3074
        if cut and cut % record == 0:
            load(kind, path)  # Files that are shorter by whole images are files.
            continue
        rest = f", {cut % record} bytes follow the last one" if cut else ""
        words = (
            f"truncated, or no binary file of CIFAR-{kind}: {cut} bytes are {cut // record} images"
        )
        refuse(path, kind, words, rest, name)


@pytest.mark.parametrize(
    ("kind", "place", "value", "words"),
    [
        (10, 0, 10, "the label of image 0 is 10, but labels are from 0 to 9"),
        (10, 2 * 3073, 255, "the label of image 2 is 255, but labels are from 0 to 9"),
        (100, 3074, 20, "the label of image 1 is 20, but coarse_labels are from 0 to 19"),
        (100, 3075, 100, "the label of image 1 is 100, but fine_labels are from 0 to 99"),
    ],
)
def test_wrong_labels_in_binary_files(
    tmp_path: Path, kind: int, place: int, value: int, words: str
) -> None:
    files = binary(kind)
    name = "test_batch.bin" if kind == 10 else "test.bin"
    data = bytearray(files[name])
    data[place] = value
    path = write_folder(tmp_path, {**files, name: bytes(data)})
    refuse(path, kind, words, f"{path / name}: ")


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch evil",)


PART = content(batch(3, 0), 10)
BAD_PICKLES: dict[str, tuple[Any, str]] = {
    "a list": ([1, 2], "no pickled batch of CIFAR-10: it holds a list, no dict"),
    "an int": (7, "it holds a int, no dict"),
    "empty": ({}, "data is missing, where an array or a list of integers is expected"),
    "no data": ({"labels": [1]}, "data is missing"),
    "data is a text": ({**PART, "data": "x"}, "data is a str, where an array"),
    "data of floats": ({**PART, "data": PART["data"].astype("f4")}, "data must be of uint8"),
    "narrow data": ({**PART, "data": PART["data"][:, 1:]}, "got shape (3, 3071)"),
    "data with more axes": (
        {**PART, "data": PART["data"].reshape(3, 3, 32, 32)},
        "got shape (3, 3, 32, 32)",
    ),
    "no images": ({**PART, "data": PART["data"][:0], "labels": []}, "got shape (0, 3072)"),
    "data of objects": ({**PART, "data": np.array([None])}, "data is damaged: an array is not of"),
    "no labels": ({"data": PART["data"]}, "labels is missing"),
    "labels of CIFAR-100": ({"data": PART["data"], "fine_labels": [1, 2, 3]}, "labels is missing"),
    "labels are a dict": ({**PART, "labels": {}}, "labels is a dict"),
    "few labels": ({**PART, "labels": [1, 2]}, "3 images, but 2 labels"),
    "labels of floats": ({**PART, "labels": np.ones(3)}, "labels must be a row of integers"),
    "labels in rows": (
        {**PART, "labels": np.eye(3, dtype=int)},
        "labels must be a row of integers",
    ),
    "labels that are no numbers": ({**PART, "labels": [1, None, 2]}, "labels is a list, where"),
    "labels that are lists": ({**PART, "labels": [1, [2], 3]}, "labels is a list, where"),
    "large labels": ({**PART, "labels": [1, 10, 2]}, "the label of image 1 is 10, but labels are"),
    "larger labels": ({**PART, "labels": [1, 256, 2]}, "the label of image 1 is 256"),
    "negative labels": ({**PART, "labels": [1, 2, -1]}, "the label of image 2 is -1"),
    "labels beyond integers": ({**PART, "labels": [1, 2, 2**70]}, "labels is a list, where"),
    "an object": ({**PART, "labels": Evil()}, "it holds posix.system, where only NumPy arrays"),
    "a set": ({**PART, "labels": {1, 2, 3}}, "no pickled batch of CIFAR-10: "),
    "a complex number": ({**PART, "more": 1j}, "is no part of dicts of lists and arrays"),
    "a number as a name": ({**PART, 5: 1}, "a name is a int"),
}


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(("value", "words"), BAD_PICKLES.values(), ids=BAD_PICKLES.keys())
def test_bad_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, words: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_folder(tmp_path / "folder", pickled(10))
    (path / "data_batch_2").write_bytes(pickle.dumps(value, protocol))
    refuse(path, 10, words, f"{path / 'data_batch_2'}: ")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("pickler", PICKLERS)
def test_pickles_that_end_early(tmp_path: Path, pickler: str) -> None:
    """A pickle lacks its end wherever it ends."""
    path = write_folder(tmp_path, pickled(100, pickler))
    data = (path / "test").read_bytes()
    for length in [*range(0, len(data), len(data) // 40), *range(len(data) - 30, len(data))]:
        (path / "test").write_bytes(data[:length])
        refuse(path, 100, f"{path / 'test'}: truncated, or no pickled batch of CIFAR-100: ")


def test_changed_pickles(tmp_path: Path) -> None:
    """A changed byte raises an error with the file's name, or changes values alone."""
    files = pickled(10)
    path = write_folder(tmp_path, files)
    data = files["test_batch"]
    start = data.index(b"U\x04data")
    for place in [*range(120), *range(start, start + 120), *range(len(data) - 60, len(data))]:
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            (path / "test_batch").write_bytes(damaged)
            try:
                x, t = load_cifar10(path, False)[1]
            except ValueError as error:
                assert str(error).startswith(f"load_cifar10: {path / 'test_batch'}: ")  # noqa: PT017
            else:
                assert x.shape == (len(t), 3, 32, 32)
                assert t.max() < 10


def pickle_of(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


HOSTILE_PICKLES = {
    "instructions": pickle_of(b"N" * (3 << 20)),
    "lists": pickle_of(b"](" + b"]" * (3 << 20) + b"e"),
    "nested lists": pickle_of(b"]" * 500_000 + b"a" * 499_999),
    "a list within itself": pickle_of(b"}U\x06labels]q\x00h\x00asU\x04datah\x00s"),
    "arguments": pickle_of(
        b"}("
        + b"N" * 10**6
        + b"tq\x00cnumpy.core.numeric\n_frombuffer\nq\x01"
        + b"h\x01h\x00R" * 300
    ),
    "announced bytes": pickle_of(b"}U\x04dataT\xff\xff\xff\x7fabc"),
    "an announced array": pickle_of(
        b"}U\x04data"
        + python_2(np.zeros(1, "u1")).replace(b"(J\x01\0\0\0t", b"(J\0\0\0\x40t")
        + b"s"
    ),
    "a growing memo": pickle_of(b"}r\xff\xff\xff\x7f"),
    "appending to bytes": pickle_of(b"\x96" + (1).to_bytes(8, "little") + b"aK\x01a"),
    "a long name": pickle_of(b"c" + b"a" * 10**6 + b"\nb\n)R"),
}


@needs_proc
@pytest.mark.parametrize("data", HOSTILE_PICKLES.values(), ids=HOSTILE_PICKLES.keys())
def test_hostile_pickles(tmp_path: Path, data: bytes) -> None:
    """They take little memory, and not the stack of the interpreter."""
    path = write_folder(tmp_path, pickled(10))
    (path / "data_batch_1").write_bytes(data)
    result = run_python(
        f"{PEAK}\n"
        "from fastconv.datasets import load_cifar10\n"
        "before = peak()\n"
        "try:\n"
        f"    load_cifar10({str(path)!r})\n"
        "except ValueError as error:\n"
        "    print(len(str(error)), peak() - before)\n"
    )
    assert result.returncode == 0, f"it ended with {result.returncode}: {result.stderr[-500:]}"
    length, memory = map(int, result.stdout.split())
    assert length < 1000
    assert memory < 400 << 20


# --- Missing files and archives -------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_missing_files(tmp_path: Path, form: str) -> None:
    files = binary(10)
    del files["data_batch_4.bin"], files["test_batch.bin"]
    path = FORMS[form](tmp_path, files)
    refuse(path, 10, f"{path}: it lacks data_batch_4.bin, test_batch.bin")
    path = FORMS[form](tmp_path, {"readme.html": b"", **files})
    refuse(path, 100, f"{path}: it holds no files of CIFAR-100, such as train.bin or train")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        load_cifar10(tmp_path / "missing")
    for path in (None, 3, ["x"]):
        with pytest.raises(TypeError, match="load_cifar10: path must be a path, got"):
            load_cifar10(path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="load_cifar100: labels must be one of 'coarse', 'fine'"):
        load_cifar100(tmp_path, labels="all")


WHOLE = archived(binary(10))
BAD_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "a damaged archive, or none: "),
    "text": (b"Hello, world" * 100, "a damaged archive, or none: "),
    "gzip of nothing": (gzip.compress(b""), "a damaged archive, or none: "),
    "gzip header": (gzip.compress(WHOLE)[:10], "a damaged archive, or none: "),
    "gzip truncated": (gzip.compress(WHOLE)[:-5000], "a damaged archive, or none: "),
    "gzip without its end": (gzip.compress(WHOLE)[:-4], "a damaged archive, or none: "),
    "gzip checksum": (gzip.compress(WHOLE)[:-8] + bytes(8), "a damaged archive, or none: CRC"),
    "a member's end": (WHOLE[: 1024 + 5000], "a damaged archive, or none: "),
    "a member's header": (WHOLE[: 512 + 100], "it holds no files of CIFAR-10"),
    "empty archive": (archived({}), "it holds no files of CIFAR-10, such as data_batch_1.bin or"),
}


@pytest.mark.parametrize(("data", "words"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_bad_archives(tmp_path: Path, data: bytes, words: str) -> None:
    path = write_file(tmp_path / "a.tar.gz", data)
    refuse(path, 10, f"{path}: {words}")


def test_changed_archives(tmp_path: Path) -> None:
    """A changed bit of a compressed archive is found, wherever it lies."""
    data = compressed(archived({n: d[: 3073 * 2] for n, d in binary(10).items()}))
    path = tmp_path / "a.tar.gz"
    known = load_cifar10(write_file(path, data), False)
    for place in [
        *range(20),
        *range(20, len(data), len(data) // 100),
        *range(len(data) - 8, len(data)),
    ]:
        damaged = bytearray(data)
        damaged[place] ^= 4
        write_file(path, bytes(damaged))
        try:
            parts = load_cifar10(path, False)
        except ValueError as error:
            assert str(error).startswith(f"load_cifar10: {path}: ")  # noqa: PT017
        else:
            assert_loaded(parts, [(x, t) for x, t in known])


def archive_of(*members: tuple[str, bytes, bytes]) -> bytes:
    """Write members by name, type and content, as often as they come."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def test_members_that_are_no_files(tmp_path: Path) -> None:
    """Links in an archive are not followed."""
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
        members = [(name, kind, b"") for name in ("train.bin", "test.bin")]
        path = write_file(tmp_path / "a", archive_of(*members))
        refuse(path, 100, f"{path}: it holds no files of CIFAR-100")
    one = ("a/train.bin", tarfile.REGTYPE, b"1")
    path = write_file(tmp_path / "a", archive_of(one, ("b/train.bin", tarfile.REGTYPE, b"2")))
    refuse(path, 100, f"{path}: a damaged archive, or none: it holds train.bin twice")
    path = write_file(tmp_path / "a", archive_of(one, ("test.bin", tarfile.REGTYPE, b"")))
    refuse(path, 100, f"{path}: train.bin: truncated, or no binary file of CIFAR-100: 1 bytes are")


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "of more than 20,000 bytes, larger than any of these data sets"
    paths = {form: write(tmp_path, binary(10)) for form, write in FORMS.items()}
    monkeypatch.setattr(_cifar, "MOST_FILE_BYTES", 20_000)
    refuse(paths["folder"], 10, f"{paths['folder'] / 'data_batch_5.bin'}: it is {words}")
    refuse(paths["tar.gz"], 10, f"a damaged archive, or none: data_batch_5.bin is {words}")
    monkeypatch.setattr(_cifar, "MOST_FILE_BYTES", 3073 * 8)
    load_cifar10(paths["folder"])
    monkeypatch.setattr(_cifar, "MOST_ARCHIVE_BYTES", 20_000)
    refuse(paths["tar.gz"], 10, f"a damaged archive, or none: what it unpacks to is {words}")
    load_cifar10(paths["folder"])


def test_archives_that_unpack_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand zeros in a byte, in a member that is read or skipped, or behind the last one."""
    monkeypatch.setattr(_cifar, "MOST_ARCHIVE_BYTES", 1 << 26)
    header = archive_of(("train.bin", tarfile.REGTYPE, b""))[:512]
    zeros = gzip.compress(bytes(1 << 24), 9) * 5  # Members of a gzip file follow each other.
    for name in ("train.bin", "other"):
        huge = tarfile.TarInfo(name)
        huge.size = 1 << 40
        start = gzip.compress(huge.tobuf(tarfile.GNU_FORMAT)) + zeros
        path = write_file(tmp_path / "a.tar.gz", start)
        with memory_bounded(40 << 20):
            refuse(path, 100, "larger than any of these data sets")
    path = write_file(tmp_path / "a.tar.gz", gzip.compress(header) + zeros)
    with memory_bounded(40 << 20):
        refuse(path, 100, "larger than any of these data sets")


def test_archives_of_many_members(tmp_path: Path) -> None:
    members = [(f"file-{i}", tarfile.REGTYPE, b"") for i in range(1001)]
    path = write_file(tmp_path / "a", archive_of(*members))
    refuse(path, 10, "it has more than 1000 members")
    path = write_file(tmp_path / "a", archive_of(*members[:1000]))
    refuse(path, 10, "it holds no files of CIFAR-10")
    # Every header announces that a longer name follows, and the next one does so, too.
    longer = archive_of(("a", tarfile.GNUTYPE_LONGNAME, b"b"))[:1024]
    path = write_file(tmp_path / "a", longer * 20_000)
    refuse(path, 10, "a damaged archive, or none: ")


# --- Names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("batches.meta.txt", b"one\ntwo\n", "label_names must be 10 names"),
        ("batches.meta.txt", b"\xff\n" * 10, "label_names must be 10 names"),
        ("fine_label_names.txt", b"", "fine_label_names must be 100 names"),
        ("batches.meta", b"", "truncated, or no pickled names of classes: "),
        ("batches.meta", pickle.dumps([]), "no pickled names of classes: it holds a list"),
        ("batches.meta", pickle.dumps({}), "label_names must be 10 names"),
        ("batches.meta", pickle.dumps({"label_names": 10}), "label_names must be 10 names"),
        ("batches.meta", pickle.dumps({"label_names": [1] * 10}), "label_names must be 10 names"),
        ("meta", pickle.dumps({"fine_label_names": FINE[1:]}), "fine_label_names must be 100"),
    ],
)
def test_bad_names(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = write_file(tmp_path / name, data)
    with pytest.raises(ValueError, match=re.escape(f"load_cifar_names: {path}: {words}")):
        load_cifar_names(tmp_path)


def test_no_names(tmp_path: Path) -> None:
    words = f"{tmp_path}: it holds no names of fine classes, such as batches.meta.txt or"
    with pytest.raises(ValueError, match=re.escape(words)):
        load_cifar_names(tmp_path)
    write_folder(tmp_path, binary(10))
    with pytest.raises(ValueError, match="it holds no names of coarse classes, such as"):
        load_cifar_names(tmp_path, labels="coarse")
