"""Sessions of ONNX models: feeds, outputs, threads, and damaged models that are run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from helpers import run_python

import fastconv
from fastconv.onnx import InferenceSession, _checks
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

Array = np.ndarray[Any, Any]


def network(batch: int | str = "N", size: int | str = 8) -> bytes:
    """Write a small network with a constant that is computed, and two outputs."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "scale": np.ones(4, np.float32),
        "zero": np.zeros(4, np.float32),
        "two": np.array(2, np.float32),
        "dense": rng.standard_normal((4, 5)).astype(np.float32),
    }
    nodes = [
        NodeToWrite("Add", ["two", "two"], ["four"]),
        NodeToWrite("Conv", ["x", "w"], ["conv"], {"pads": (1, 1, 1, 1)}, "conv1"),
        NodeToWrite(
            "BatchNormalization", ["conv", "scale", "zero", "zero", "scale"], ["bn"], {}, "bn1"
        ),
        NodeToWrite("Relu", ["bn"], ["relu"], {}, "relu1"),
        NodeToWrite("Mul", ["relu", "four"], ["scaled"]),
        NodeToWrite("GlobalAveragePool", ["scaled"], ["pool"]),
        NodeToWrite("Flatten", ["pool"], ["features"]),
        NodeToWrite("MatMul", ["features", "dense"], ["scores"]),
        NodeToWrite("Softmax", ["scores"], ["unused"]),
    ]
    x = Described("x", np.float32, [batch, 3, size, size])
    outputs = [
        Described("scores", np.float32, [batch, 5]),
        Described("features", np.float32, [batch, 4]),
    ]
    return model_bytes(nodes, [x], outputs, constants, 17)


def images(n: int = 2, size: int = 8) -> Array:
    return np.random.default_rng(1).standard_normal((n, 3, size, size)).astype(np.float32)


def identity(**outputs: str) -> bytes:
    """Write a model whose outputs are its input or its constant."""
    nodes = [NodeToWrite("Identity", [source], [name]) for name, source in outputs.items()]
    described = [Described(name, np.float32, [None]) for name in outputs]
    x = Described("x", np.float32, ["N"])
    return model_bytes(nodes, [x], described, {"c": np.ones(3, np.float32)}, 17)


def test_inputs_and_outputs() -> None:
    session = InferenceSession(network())
    (x,) = session.get_inputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["N", 3, 8, 8])
    assert [value.name for value in session.get_outputs()] == ["scores", "features"]
    assert repr(session) == (
        "InferenceSession(x ('N', 3, 8, 8) -> scores ('N', 5), features ('N', 4), 7 steps)"
    )


def test_outputs_are_chosen_by_name() -> None:
    session = InferenceSession(network())
    feeds = {"x": images()}
    scores, features = session.run(None, feeds)
    again = session.run(["features", "scores", "features"], feeds)
    for found, expected in zip(again, (features, scores, features), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="output_names must be of scores, features, got 'pool'"):
        session.run(["pool"], feeds)
    with pytest.raises(TypeError, match="output_names must be a list of names or None, got 'sc"):
        session.run("scores", feeds)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_sizes_may_vary(n: int) -> None:
    session = InferenceSession(network(size="S"))
    for size in (4, 9):
        scores, features = session.run(None, {"x": images(n, size)})
        assert scores.shape == (n, 5)
        assert features.shape == (n, 4)


@pytest.mark.parametrize(
    ("feeds", "kind", "message"),
    [
        ({}, ValueError, "feeds has no array for 'x'"),
        ({"x": images(), "y": 1}, ValueError, "feeds must be of x, got 'y'"),
        ({"x": images().astype(float)}, ValueError, "must be of dtype float32, got float64"),
        ({"x": images(size=7)}, ValueError, r"shape \['N', 3, 8, 8\] with {'N': 2}, got \(2, 3, 7"),
        ({"x": images()[0]}, ValueError, "must have shape"),
        ([images()], TypeError, "feeds must be a mapping of names to arrays, got list"),
    ],
)
def test_feeds_are_checked(feeds: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        InferenceSession(network()).run(None, feeds)


def test_names_of_sizes_hold_for_all_inputs() -> None:
    values = [Described(name, np.float32, ["N"]) for name in "ab"]
    nodes = [NodeToWrite("Concat", ["a", "b"], ["y"], {"axis": 0})]
    session = InferenceSession(model_bytes(nodes, values, [values[0]._replace(name="y")], {}, 17))
    with pytest.raises(ValueError, match=r"feeds\['b'\] must have shape \['N'\] with {'N': 2}"):
        session.run(None, {"a": np.zeros(2, "f"), "b": np.zeros(3, "f")})


def test_feeds_of_any_layout() -> None:
    session = InferenceSession(network())
    x = images()
    expected = session.run(None, {"x": x})
    reverse = np.ascontiguousarray(x[:, ::-1])[:, ::-1]
    for other in (reverse, x.astype(">f4"), np.asfortranarray(x), x.tolist()):
        array = np.asarray(other, np.float32) if isinstance(other, list) else other
        for found, wanted in zip(session.run(None, {"x": array}), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert found.flags.carray


def test_results_share_no_memory() -> None:
    session = InferenceSession(identity(a="x", b="x", c1="c"))
    x = np.arange(3, dtype=np.float32)
    results = session.run(None, {"x": x})
    for i, array in enumerate(results):
        assert array.flags.writeable
        array[:] = 10 + i
    np.testing.assert_array_equal(x, [0, 1, 2])
    assert [array[0] for array in results] == [10, 11, 12]
    np.testing.assert_array_equal(session.run(["c1"], {"x": x})[0], [1, 1, 1])


def test_optimizing_changes_no_result() -> None:
    feeds = {"x": images()}
    plain = InferenceSession(network(), optimize=False).run(None, feeds)
    for found, expected in zip(InferenceSession(network()).run(None, feeds), plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_activations() -> None:
    session = InferenceSession(network())
    feeds = {"x": images()}
    found = session.activations(feeds)
    names = ["four", "conv", "bn", "relu", "scaled", "pool", "features", "scores", "unused"]
    assert list(found) == names
    np.testing.assert_array_equal(found["relu"], np.maximum(found["bn"], 0))
    scores = session.run(["scores"], feeds)[0]
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-6)


def test_tables() -> None:
    session = InferenceSession(network())
    summary = session.summary()
    assert "opset 17, 9 nodes" in summary
    assert "input x: tensor(float) ['N', 3, 8, 8]" in summary
    assert "conv1" in summary
    profile = session.profile({"x": images()}, repeats=2)
    steps, operators = (part.splitlines() for part in profile.split("\n\n"))
    assert len(steps) == 2 + 7 + 1
    assert "(2, 4, 8, 8)" in profile
    assert steps[-1].startswith("total")
    assert [line.split()[1] for line in operators[2:]] == ["1"] * 7
    assert {line.split()[0] for line in operators[2:]} >= {"Conv", "Relu", "MatMul"}


def test_number_of_threads_changes_no_bit() -> None:
    feeds = {"x": images(16)}
    results = [
        InferenceSession(network(), num_threads=threads).run(None, feeds) for threads in (1, 2, 3)
    ]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="num_threads must be a positive int, got 0"):
        InferenceSession(network(), num_threads=0)


def test_sessions_set_threads_for_their_runs_only() -> None:
    before = fastconv.get_num_threads()
    InferenceSession(network(), num_threads=before + 1).run(None, {"x": images()})
    assert fastconv.get_num_threads() == before


def test_many_threads_run_a_session() -> None:
    session = InferenceSession(network(size="S"))
    feeds = [{"x": images(n, size)} for n, size in ((1, 8), (3, 8), (2, 12), (1, 5))]
    expected = [session.run(None, feed) for feed in feeds]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            results = session.run(None, feeds[i])
            if not all(map(np.array_equal, results, expected[i])):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i % 4,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_warnings_of_numpy_are_not_shown() -> None:
    nodes = [
        NodeToWrite("Log", ["x"], ["log"]),
        NodeToWrite("Div", ["log", "x"], ["y"]),
    ]
    x = Described("x", np.float32, ["N"])
    session = InferenceSession(model_bytes(nodes, [x], [x._replace(name="y")], {}, 17))
    (y,) = session.run(None, {"x": np.array([-1, 0, 1, np.inf], "f")})
    np.testing.assert_array_equal(y, [np.nan, -np.inf, 0, np.nan])


def test_import_loads_no_other_library() -> None:
    """The reader and the session need NumPy alone."""
    result = run_python(
        "import sys\n"
        "import numpy\n"
        "before = set(sys.modules)\n"
        "import fastconv.onnx\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "ours = {'numpy', 'fastconv', 'cython_runtime'}\n"
        "print(*sorted(loaded - set(sys.stdlib_module_names) - ours))\n"
        "print('fastconv.layers' in sys.modules)"
    )
    assert result.returncode == 0, result.stderr
    loaded, has_layers = result.stdout.splitlines()
    assert [name for name in loaded.split() if not name.startswith("_")] == []
    assert has_layers == "False"


def attempt(data: bytes, feeds: Mapping[str, Array]) -> bool:
    """Load and run a damaged model; return whether it gave results."""
    try:
        InferenceSession(data).run(None, feeds)
    except (ValueError, NotImplementedError):
        return False
    return True


def test_damaged_models_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte but those of weights is changed; only a ValueError may come out."""
    monkeypatch.setattr(_checks, "most_bytes", lambda: 1 << 22)
    data = bytearray(network(1, 8))
    feeds = {"x": images(1)}
    survivors = 0
    weights = [
        data.index(array.tobytes())
        for array in InferenceSession(bytes(data))._model.constants.values()
        if array.size > 4
    ]
    skipped = {i for begin in weights for i in range(begin, begin + 80)}
    for i, byte in enumerate(bytes(data)):
        if i in skipped or (i > 300 and i % 3):
            continue
        for damaged in (byte ^ 1, byte ^ 0x80, 0x7F):
            data[i] = damaged
            survivors += attempt(bytes(data), feeds)
        data[i] = byte
    assert survivors
