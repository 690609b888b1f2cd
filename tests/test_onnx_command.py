"""The command ``fastconv onnx``: what it tells of models, runs, draws, and refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CommandResult

import fastconv
from fastconv._commands.onnx_feeds import Picture
from fastconv.onnx import InferenceSession
from fastconv.onnx._explanations import explain
from fastconv.onnx._model import ValueInfo
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

Array = np.ndarray[Any, Any]
Onnx = Callable[..., CommandResult]
Image: Any = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture
def onnx(command: Callable[..., CommandResult]) -> Onnx:
    return partial(command, "onnx")


def assert_refused(result: CommandResult, *words: str) -> None:
    """One line of error, which names no function: who runs a command has called none."""
    result.assert_refused("onnx", *words)
    for name in ("InferenceSession", "read_model", "run: ", "positive: "):
        assert name not in result.err


def classifier(path: Path, batch: int | str = "N", softmax: bool = False, **sizes: Any) -> Path:
    """Write a network of two classes: much red, and much blue."""
    height, width = sizes.get("size", (4, 4))
    conv = np.zeros((2, 3, 1, 1), np.float32)
    conv[0, 0], conv[1, 2] = 1, 1
    nodes = [
        NodeToWrite("Conv", ["image", "w"], ["maps"]),
        NodeToWrite("GlobalAveragePool", ["maps"], ["means"]),
        NodeToWrite("Reshape", ["means", "rows"], ["flat"]),
        NodeToWrite("Gemm", ["flat", "dense"], ["scores"]),
    ]
    outputs = [Described("scores", np.float32, [batch, 2])]
    if softmax:
        nodes.append(NodeToWrite("Softmax", ["scores"], ["probabilities"]))
        outputs = [Described("probabilities", np.float32, [batch, 2])]
    constants = {
        "w": conv,
        "rows": np.array([batch if isinstance(batch, int) else -1, 2]),
        "dense": np.array([[4, 0], [0, 4]], np.float32),
    }
    image = Described("image", np.float32, [batch, 3, height, width])
    path.write_bytes(model_bytes(nodes, [image], outputs, constants, 17))
    return path


def adder(path: Path) -> Path:
    """Write a model of two inputs and two outputs."""
    nodes = [NodeToWrite("Add", ["a", "b"], ["sum"]), NodeToWrite("Sub", ["a", "b"], ["rest"])]
    values = [Described(name, np.float32, ["N", 2]) for name in ("a", "b", "sum", "rest")]
    path.write_bytes(model_bytes(nodes, values[:2], values[2:], {}, 17))
    return path


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def red(tmp_path: Path) -> Path:
    return picture(tmp_path / "red.png", (255, 0, 0))


# --- info -----------------------------------------------------------------------------------


def test_info(onnx: Onnx, tmp_path: Path) -> None:
    result = onnx("info", classifier(tmp_path / "m.onnx", size=("H", "W")))
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[2].split() == ["input", "image", "tensor(float)", "(N,", "3,", "H,", "W)"]
    assert lines[3].split() == ["output", "scores", "tensor(float)", "(N,", "2)"]
    assert "opset:         17\nnodes:         4\nparameters:    12\n" in result.out
    assert "multiply-adds: unknown (the input 'image' takes ('N', 3, 'H', 'W')" in result.out
    assert {tuple(line.split()) for line in lines} >= {("Conv", "1", "yes"), ("Gemm", "1", "yes")}
    assert lines[-1] == "all operators are supported"


def test_info_counts_multiply_adds(onnx: Onnx, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", size=("H", "W"))
    for options in (["--shape", "2,3,5,7"], ["--shape", "image=2,3,5,7"]):
        result = onnx("info", path, *options)
        assert f"multiply-adds: {2 * (6 * 35 + 4)} for image (2, 3, 5, 7)" in result.out
    fixed = classifier(tmp_path / "fixed.onnx")
    assert f"{6 * 16 + 4} for image (1, " in onnx("info", fixed).out
    assert f"{3 * (6 * 16 + 4)} for image (3, " in onnx("info", fixed, "--batch", "3").out


def test_info_of_all_products(onnx: Onnx, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((3, 2, 2, 2)).astype(np.float32)
    nodes = [
        NodeToWrite("ConvTranspose", ["x", "w"], ["y"], {"strides": (2, 2)}),
        NodeToWrite("Flatten", ["y"], ["rows"]),
        NodeToWrite("MatMul", ["rows", "dense"], ["z"]),
        NodeToWrite("Gemm", ["z", "tall"], ["out"], {"transA": 1}),
    ]
    constants = {
        "w": weight,
        "dense": np.ones((2 * 4 * 4, 5), np.float32),
        "tall": np.ones((1, 6), np.float32),
    }
    x, out = Described("x", np.float32, [1, 3, 2, 2]), Described("out", np.float32, [5, 6])
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(nodes, [x], [out], constants, 17))
    assert f"multiply-adds: {12 * 8 + 32 * 5 + 30} for" in onnx("info", path).out


def test_info_names_what_is_not_supported(onnx: Onnx, tmp_path: Path) -> None:
    nodes = [
        NodeToWrite("Relu", ["x"], ["y"]),
        NodeToWrite("Einsum", ["y"], ["z"], {"equation": "i->i"}, "sum1"),
    ]
    x, z = (Described(name, np.float32, [2]) for name in "xz")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(nodes, [x], [z], {}, 17))
    result = onnx("info", path)
    assert result.code == 0
    rows = {tuple(line.split()) for line in result.out.splitlines()}
    assert rows >= {("Relu", "1", "yes"), ("Einsum", "1", "no")}
    assert result.out.splitlines()[-1] == (
        "not supported: node 'sum1' (Einsum): the operator is not supported"
    )
    assert "all operators are supported" not in result.out.replace("not all", "some")
    assert_refused(onnx("profile", path), "node 'sum1' (Einsum): the operator is not supported")


def test_damaged_models_are_refused(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(classifier(tmp_path / "m.onnx").read_bytes()[:-3])
    for action in (["info"], ["profile"], ["run"]):
        files = [red] if action == ["run"] else []
        cut = onnx(*action, tmp_path / "cut.onnx", *files)
        assert_refused(cut, "cut.onnx: malformed ONNX file", "byte")
        assert_refused(onnx(*action, tmp_path / "none.onnx", *files), "No such file")
        assert_refused(onnx(*action, tmp_path, *files), "Is a directory")


# --- profile --------------------------------------------------------------------------------


def test_profile(onnx: Onnx, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    result = onnx("profile", path, "--batch", "3", "--repeat", "2", "--threads", "1")
    assert result.code == 0
    steps, operators = result.out.split("\n\n")
    assert "(3, 2, 4, 4)" in steps
    assert "total" in steps
    assert {line.split()[0] for line in operators.splitlines()[2:]} >= {"Conv", "Gemm"}


def test_shapes_that_do_not_fit(onnx: Onnx, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", 1, size=("H", "W"))
    assert_refused(onnx("profile", path), "'image'", "add --shape image=SIZES")
    assert_refused(onnx("profile", path, "--batch", "2"), "--batch", "'image' is 1, got 2")
    for shape, word in (
        ("1,3,x", "whole numbers"),
        ("1,3,0,4", "whole numbers"),
        ("other=1", "the model takes image"),
        ("1,2,4,4", "must have shape"),
        ("1,3,99999999,99999999", "does not fit into memory"),
        (f"1,3,4,{10**22}", "does not fit into memory"),
    ):
        assert_refused(onnx("profile", path, "--shape", shape), word)
    refused = onnx("info", path, "--shape", "other=1")
    assert_refused(refused, "the model takes image")
    assert not refused.out


def relu(path: Path, x: str, *names: str) -> Path:
    """Write a model of three numbers whose outputs have names."""
    nodes = [NodeToWrite("Relu", [x], [name]) for name in names]
    values = [Described(name, np.float32, [3]) for name in (x, *names)]
    path.write_bytes(model_bytes(nodes, values[:1], values[1:], {}, 17))
    return path


def test_names_cannot_steer_the_terminal(onnx: Onnx, tmp_path: Path) -> None:
    path = relu(tmp_path / "m.onnx", "x\x1b[2J", "y\n\x07")
    np.save(tmp_path / "x.npy", np.arange(3, dtype=np.float32))
    results = [onnx("info", path), onnx("profile", path), onnx("run", path, tmp_path / "x.npy")]
    for result in results:
        assert result.code == 0
        assert r"y\n\x07" in result.out
        assert not set(result.out) & {"\x1b", "\x07"}
    assert r"x\x1b[2J" in results[0].out
    refused = onnx("profile", path, "--shape", "z=1")
    assert_refused(refused, r"takes x\x1b[2J")
    assert "\x1b" not in refused.err


# --- run: classes ---------------------------------------------------------------------------


def test_run_prints_the_best_classes(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    blue = picture(tmp_path / "blue.png", (0, 0, 255), (9, 6))
    (tmp_path / "labels.txt").write_text("red\nblue\n")
    path = classifier(tmp_path / "m.onnx")
    result = onnx("run", path, red, blue, "--labels", tmp_path / "labels.txt")
    assert result.code == 0
    best, rest = f"{1 / (1 + np.exp(-4)):.4f}", f"{1 / (1 + np.exp(4)):.4f}"
    first, second = (part.splitlines() for part in result.out.split("\n\n"))
    assert [first[0], second[0]] == [str(red), str(blue)]
    assert [line.split() for line in first[3:]] == [["0", best, "red"], ["1", rest, "blue"]]
    assert [line.split() for line in second[3:]] == [["1", best, "blue"], ["0", rest, "red"]]
    top = onnx("run", path, red, "--top", "1").out.splitlines()
    assert [line.split() for line in top[3:]] == [["0", best]]


def test_probabilities_stay_what_they_are(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    scores, probabilities = (
        onnx("run", classifier(tmp_path / "m.onnx", softmax=softmax), red).out
        for softmax in (False, True)
    )
    assert scores == probabilities


def test_bgr_and_layout(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    assert onnx("run", path, red, "--bgr").out.splitlines()[3].split()[0] == "1"
    assert_refused(onnx("run", path, red, "--layout", "nhwc"), "has 4 channels", "--layout")


def test_labels_must_fit(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    labels = tmp_path / "labels.txt"
    labels.write_text("one\n")
    run = partial(onnx, "run", path, red, "--output", tmp_path / "o.npz", "--labels")
    assert_refused(run(labels), "1 names, but 2 classes")
    labels.write_bytes(b"\xff\xfe\x00")
    assert_refused(run(labels), "labels.txt: ")
    assert_refused(run(tmp_path / "none.txt"), "none.txt: No such file")
    assert not (tmp_path / "o.npz").exists()


# --- run: pictures to numbers -----------------------------------------------------------------


def image_input(*shape: int | str | None, dtype: Any = np.float32) -> ValueInfo:
    return ValueInfo("image", "tensor(float)", list(shape), np.dtype(dtype))


def test_pictures_are_normalized(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "p.png", (255, 51, 0), (2, 3)))
    found = Picture(mean=(0.5, 0.1, 0.0), std=(0.5, 1.0, 2.0)).read(path, image_input(1, 3, 3, 2))
    assert found.shape == (1, 3, 3, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, 1, 1], [1, 0.1, 0], atol=1e-6)
    last = Picture(scale=1.0, bgr=True).read(path, image_input(1, 3, 2, 3))
    assert last.shape == (1, 3, 2, 3)  # The second size is 3: channels come first.
    last = Picture(scale=1.0, bgr=True).read(path, image_input("N", None, None, 3))
    assert last.shape == (1, 3, 2, 3)
    np.testing.assert_array_equal(last[0, 2, 1], [0, 51, 255])


def test_pictures_of_integers_and_gray(tmp_path: Path) -> None:
    path = str(picture(tmp_path / "p.png", (10, 10, 10)))
    found = Picture(scale=0.1).read(path, image_input(1, 1, 2, 2, dtype=np.uint8))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.full((1, 1, 2, 2), 10))


def test_pictures_cover_the_input_and_keep_their_middle(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[10:30, 30:50] = 255
    path = str(tmp_path / "p.png")
    Image.fromarray(pixels).save(path)
    found = Picture(crop=0.5).read(path, image_input(1, 3, 20, 20))
    np.testing.assert_array_equal(found, np.ones((1, 3, 20, 20)))
    wide = Picture(size=(20, 40)).read(path, image_input(1, 3, "H", "W"))
    assert wide.shape == (1, 3, 20, 40)
    np.testing.assert_array_equal(wide[0, 0, 6:14, 16:24], np.ones((8, 8)))
    assert wide[0, 0, :, :12].max() == 0
    assert Picture().read(path, image_input("N", 3, "H", "W")).shape == (1, 3, 40, 80)


def test_pictures_that_do_not_fit(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    run = partial(onnx, "run", path)
    assert_refused(run(red, "--mean", "1,2"), "--mean must be 1 number or 3", "got 2")
    assert_refused(run(tmp_path / "none.png"), "none.png: No such file")
    assert_refused(run(path), "m.onnx", "nor an image")
    assert_refused(run(red, "--size", "5"), "must have shape", "(1, 3, 5, 5)")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(deep)
    assert_refused(run(deep), "deep.png: only pixels of 8 bits")
    assert_refused(onnx("run", adder(tmp_path / "a.onnx"), f"a={red}", f"b={red}"), "no pictures")
    thin = picture(tmp_path / "thin.png", (0, 0, 0), (1, 4096))
    wide = classifier(tmp_path / "wide.onnx", size=(8, 8192))
    assert_refused(onnx("run", wide, thin), "thin.png", "would be enlarged", "pixels")


@pytest.mark.parametrize(
    "options",
    [
        ["--mean", "a"],
        ["--std", "0"],
        ["--std", "nan"],
        ["--scale", "-1"],
        ["--size", "0"],
        ["--size", "1,2,3"],
        ["--crop", "1.5"],
        ["--layout", "chw"],
        ["--top", "0"],
        ["--threads", "0"],
    ],
)
def test_wrong_options(onnx: Onnx, tmp_path: Path, red: Path, options: list[str]) -> None:
    result = onnx("run", classifier(tmp_path / "m.onnx"), red, *options)
    assert result.code == 2
    assert f"argument {options[0]}" in result.err


# --- run: arrays ------------------------------------------------------------------------------


def test_arrays_by_name(onnx: Onnx, tmp_path: Path) -> None:
    path, out = adder(tmp_path / "m.onnx"), tmp_path / "out.npz"
    a, b = np.array([[1, 2.0]]), np.array([[3, 5]], np.float32)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b=1.npy", b)
    np.savez(tmp_path / "both.npz", a=a, b=b)
    np.savez(tmp_path / "one.npz", anything=b)
    for files in (
        [f"a={tmp_path / 'a.npy'}", f"b={tmp_path / 'b=1.npy'}"],
        [tmp_path / "both.npz"],
        [f"b={tmp_path / 'one.npz'}", f"a={tmp_path / 'a.npy'}"],
    ):
        result = onnx("run", path, *files, "--output", out)
        assert result.code == 0, result.err
        with np.load(out) as arrays:
            np.testing.assert_array_equal(arrays["sum"], [[4, 7]])
            np.testing.assert_array_equal(arrays["rest"], [[-2, -3]])
            assert arrays["sum"].dtype == np.float32


def test_what_is_no_score_is_summarised(onnx: Onnx, tmp_path: Path) -> None:
    nodes = [NodeToWrite("Relu", ["x"], ["y"])]
    x, y = (Described(name, np.float32, ["N", 3, "L"]) for name in "xy")
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(nodes, [x], [y], {}, 17))
    np.save(tmp_path / "x.npy", np.array([[[-1, 4], [0, 0], [0, 0]]], np.float32))
    result = onnx("run", path, tmp_path / "x.npy")
    line = result.out.splitlines()[-1].split()
    assert line == ["y", "float32", "(1,", "3,", "2)", "0", "0.66667", "4"]
    (tmp_path / "labels.txt").write_text("a\n")
    refused = onnx("run", path, tmp_path / "x.npy", "--labels", tmp_path / "labels.txt")
    assert_refused(refused, "'y' has no scores", "(1, 3, 2)")


def test_arrays_of_several_files_are_joined(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    out = tmp_path / "out.npz"
    np.save(tmp_path / "two.npy", np.ones((2, 3, 4, 4)))
    path = classifier(tmp_path / "m.onnx")
    result = onnx("run", path, red, tmp_path / "two.npy", "--output", out)
    assert [line for line in result.out.splitlines() if "two.npy" in line] == [
        f"{tmp_path / 'two.npy'}[{i}]" for i in (0, 1)
    ]
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["scores"], [[4, 0], [4, 4], [4, 4]])


def test_wrong_arrays(onnx: Onnx, tmp_path: Path) -> None:
    path = adder(tmp_path / "m.onnx")
    run = partial(onnx, "run", path)
    a = tmp_path / "a.npy"
    np.save(a, np.ones((1, 2)))
    assert_refused(run(a), "the model takes a, b: write NAME=")
    assert_refused(run(f"a={a}"), "nothing is given for the input 'b'", "b=FILE")
    assert_refused(run(f"a={a}", f"a={a}", f"b={a}"), "'a' is given twice")
    assert_refused(run("a="), "no file behind 'a='")
    assert_refused(run(f"a={a}", f"b={tmp_path / 'none.npy'}"), "none.npy: No such file")
    other = tmp_path / "b.npy"
    for content, word in (
        (np.ones((1, 2), complex), "takes float32, got complex128"),
        (np.ones((1, 3)), "must have shape ['N', 2]"),
        (np.ones((2, 2)), "must have shape"),
        (np.array([object()]), "cannot read the arrays"),
    ):
        np.save(other, content, allow_pickle=True)
        assert_refused(run(f"a={a}", f"b={other}"), "b.npy", word)
    for data in (b"", b"abc", b"\x93NUMPY\x01\x00", b"PK\x03\x04junk"):
        other.write_bytes(data)
        assert_refused(run(f"a={a}", f"b={other}"), "b.npy: cannot read the arrays")
    archive = tmp_path / "c.npz"
    np.savez(archive, a=np.ones((1, 2)), c=np.ones((1, 2)))
    assert_refused(run(archive), "there is an array 'c', but the model takes a, b")
    archive.rename(other)
    assert_refused(run(f"a={a}", f"b={other}"), "an archive of arrays")
    np.save(a, np.ones((1, 2)))
    a.rename(tmp_path / "c.npz")
    assert_refused(run(tmp_path / "c.npz"), "c.npz: it is one array; call it .npy")


def test_targets_that_cannot_be_written(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    path = classifier(tmp_path / "m.onnx")
    for option, name in (("--output", "no/o.npz"), ("--heat-map", "no/h.png")):
        result = onnx("run", path, red, option, tmp_path / name)
        assert_refused(result, f"cannot write {tmp_path / name}")


def test_output_and_heat_map_are_two_files(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path, target = classifier(tmp_path / "m.onnx"), tmp_path / "both.png"
    result = onnx("run", path, red, "--output", target, "--heat-map", target)
    assert_refused(result, "--output and --heat-map are one file")
    assert not target.exists()


def test_outputs_may_have_any_name(onnx: Onnx, tmp_path: Path) -> None:
    names = ["file", "allow_pickle", "a/b"]
    path = relu(tmp_path / "m.onnx", "x", *names)
    x = np.arange(3, dtype=np.float32) - 1
    np.save(tmp_path / "x.npy", x)
    assert onnx("run", path, tmp_path / "x.npy", "--output", tmp_path / "o.npz").code == 0
    with np.load(tmp_path / "o.npz") as found:
        assert found.files == names
        for name in names:
            np.testing.assert_array_equal(found[name], np.maximum(x, 0))


def test_models_without_inputs_take_no_files(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    y = Described("y", np.float32, [1])
    data = model_bytes(
        [NodeToWrite("Relu", ["c"], ["y"])], [], [y], {"c": np.ones(1, np.float32)}, 17
    )
    (tmp_path / "m.onnx").write_bytes(data)
    assert_refused(onnx("run", tmp_path / "m.onnx", red), "the model takes no input")


# --- heat maps --------------------------------------------------------------------------------


def half_red(path: Path) -> Path:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:, 0] = 255
    pixels[0, 0, 2] = 128
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("batch", ["N", 1])
def test_maps_of_linear_endings_are_exact(tmp_path: Path, batch: int | str, softmax: bool) -> None:
    """The score of red is 4 times the mean of red; fixed batches are computed one by one."""
    session = InferenceSession(classifier(tmp_path / "m.onnx", batch, softmax))
    image = np.random.default_rng(0).random((1, 3, 4, 4)).astype(np.float32)
    image[:, 0] += 1
    found = explain(session, {"image": image})
    assert (found.class_index, found.value) == (0, "maps")
    np.testing.assert_allclose(found.score, 4 * image[0, 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(found.heat, 4 / 16 * image[0, 0], rtol=1e-3)


def test_maps_of_models_of_one_image_are_computed_one_by_one(tmp_path: Path) -> None:
    nodes = [
        NodeToWrite("Relu", ["image"], ["maps"]),
        NodeToWrite("GlobalAveragePool", ["maps"], ["means"]),
        NodeToWrite("Squeeze", ["means", "axes"], ["row"]),
        NodeToWrite("MatMul", ["row", "dense"], ["scores"]),
    ]
    constants = {"axes": np.array([0, 2, 3]), "dense": np.array([[1, 2], [3, 0]], np.float32)}
    image, scores = (
        Described("image", np.float32, [1, 2, 3, 3]),
        Described("scores", np.float32, [2]),
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(nodes, [image], [scores], constants, 17))
    x = np.random.default_rng(0).random((1, 2, 3, 3)).astype(np.float32)
    x[0, 1] += 1
    found = explain(InferenceSession(path), {"image": x})
    np.testing.assert_allclose(found.heat, (x[0, 0] + 3 * x[0, 1]) / 9, rtol=1e-3)


def test_maps_of_other_endings_are_gradients(tmp_path: Path) -> None:
    """The channels of a map are weighted by the mean of the gradient, here of a sum of squares."""
    nodes = [
        NodeToWrite("Relu", ["image"], ["maps"]),
        NodeToWrite("Flatten", ["maps"], ["flat"]),
        NodeToWrite("Mul", ["flat", "flat"], ["squares"]),
        NodeToWrite("MatMul", ["squares", "dense"], ["scores"]),
    ]
    dense = np.random.default_rng(1).random((3 * 4 * 5, 2)).astype(np.float32)
    dense[:, 1] += 1
    path = tmp_path / "m.onnx"
    image = Described("image", np.float32, ["N", 3, 4, 5])
    scores = Described("scores", np.float32, ["N", 2])
    path.write_bytes(model_bytes(nodes, [image], [scores], {"dense": dense}, 17))
    x = np.random.default_rng(0).random((1, 3, 4, 5)).astype(np.float32)
    found = explain(InferenceSession(path), {"image": x})
    assert found.class_index == 1
    gradient = 2 * x[0] * dense[:, 1].reshape(3, 4, 5)
    expected = np.tensordot(gradient.mean(axis=(1, 2)), x[0], 1)
    np.testing.assert_allclose(found.heat, expected, rtol=1e-3)


def test_heat_map_is_drawn(onnx: Onnx, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    target = tmp_path / "heat.png"
    image = half_red(tmp_path / "half.png")
    result = onnx("run", classifier(tmp_path / "m.onnx"), image, "--heat-map", target)
    assert result.code == 0
    assert "class" in result.out
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    # On the right of the picture, beside the image, red pixels are bright: inferno ends in yellow.
    yellow = (pixels[..., 0] > 240) & (pixels[..., 1] > 240) & (pixels[..., 2] < 200)
    assert yellow.sum() > 1000


def test_what_has_no_heat_map(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    target = tmp_path / "heat.png"
    path = classifier(tmp_path / "m.onnx")
    run = partial(onnx, "run", path, "--heat-map")
    assert_refused(run(target, red, red), "drawn for one image, got 2")
    assert_refused(run(tmp_path / "heat.txt", red), "extension must be one of")
    np.save(tmp_path / "two.npy", np.ones((2, 3, 4, 4)))
    assert_refused(run(target, tmp_path / "two.npy"), "for one image, got the shape (2, 3, 4, 4)")
    both = adder(tmp_path / "a.onnx")
    np.save(tmp_path / "a.npy", np.ones((1, 2)))
    files = [f"{name}={tmp_path / 'a.npy'}" for name in "ab"]
    assert_refused(onnx("run", both, *files, "--heat-map", target), "models of one input")
    nodes = [NodeToWrite("Relu", ["x"], ["y"])]
    x, y = (Described(name, np.float32, [1, 3, 4, 4]) for name in "xy")
    path.write_bytes(model_bytes(nodes, [x], [y], {}, 17))
    assert_refused(run(target, red), "--heat-map: the output 'y' is no row of scores")
    nodes = [NodeToWrite("Flatten", ["x"], ["y"])]
    path.write_bytes(model_bytes(nodes, [x], [Described("y", np.float32, [1, 48])], {}, 17))
    assert_refused(run(target, red), "depend on no images")
    assert not target.exists()


def test_threads_of_a_run(onnx: Onnx, tmp_path: Path, red: Path) -> None:
    before = fastconv.get_num_threads()
    assert onnx("run", classifier(tmp_path / "m.onnx"), red, "--threads", "1").code == 0
    assert fastconv.get_num_threads() == before
