"""Activations, sums, dropout's mask and softmax: kernels that layers call on whole arrays."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from helpers import (
    EDGE_SIZES,
    LAYOUTS,
    Array,
    assert_close,
    assert_same,
    normal_values,
    refused,
    run_python,
)
from test_bounds import at_edge

import fastconv
from fastconv import _elementwise, _kernels
from fastconv._elementwise import add, add_relu, drop, scale
from fastconv._epilogue import ACTIVATIONS
from fastconv.layers import (
    Dropout,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Relu,
    Relu6,
    Sigmoid,
    SiLU,
    SoftmaxWithLoss,
    _loss,
)
from fastconv.models import Sequential

DTYPES = ["f2", "f4", "f8"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
RUN, BLOCK = 8 << 10, 2 << 10
"""How many numbers an item of the kernel's work holds, and how many it computes at a time."""
SIZES = [*EDGE_SIZES, BLOCK - 1, BLOCK + 1, RUN + 1, 3 * RUN + BLOCK + 5]


def sigmoid(x: Array) -> Array:
    return np.asarray(reference.activate(x, "sigmoid"))


LAYERS: dict[str, tuple[Callable[[], Any], Callable[[Array], Array], Callable[[Array], Array]]] = {
    "LeakyRelu": (
        LeakyRelu,
        lambda x: reference.activate(x, "leaky_relu"),
        lambda x: np.where(x > 0, 1, 0.01),
    ),
    "LeakyRelu-steep": (
        lambda: LeakyRelu(1.5),
        lambda x: np.where(x < 0, 1.5 * x, x),
        lambda x: np.where(x > 0, 1, 1.5),
    ),
    "LeakyRelu-flat": (
        lambda: LeakyRelu(0),
        lambda x: reference.activate(x, "relu"),
        lambda x: np.where(x > 0, 1, 0),
    ),
    "Relu6": (
        Relu6,
        lambda x: reference.activate(x, "relu6"),
        lambda x: np.where((x > 0) & (x < 6), 1, 0),
    ),
    "Sigmoid": (Sigmoid, sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "HardSigmoid": (
        HardSigmoid,
        lambda x: reference.activate(x, "hardsigmoid"),
        lambda x: np.where(np.abs(x) < 2.5, 0.2, 0),
    ),
    "HardSigmoid-steep": (
        lambda: HardSigmoid(2),
        lambda x: np.clip(2 * x + 0.5, 0, 1),
        lambda x: np.where(np.abs(x) < 0.25, 2, 0),
    ),
    "HardSwish": (
        HardSwish,
        lambda x: reference.activate(x, "hardswish"),
        lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    ),
    "SiLU": (
        SiLU,
        lambda x: reference.activate(x, "silu"),
        lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
    ),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def inputs(size: int, dtype: str, seed: int = 0) -> Array:
    """Draw numbers on both sides of every bound, and not close to one in a lower precision."""
    x = np.asarray(6 * np.random.default_rng(seed).standard_normal(size))
    for bound in (0, 0.25, -0.25, 2.5, -2.5, 3, -3, 6):
        x = np.where(np.abs(x - bound) < 0.01, bound + 0.05, x)
    return x.astype(dtype)


# ----------------------------------------------------------------------------------- activations


@each_layer
@each_dtype
def test_definitions(level: str, name: str, dtype: str) -> None:
    """Results and gradients are the formulas' in float64, rounded, at every size."""
    make, function, derivative = LAYERS[name]
    for size in SIZES:
        x, dout = inputs(size, dtype), normal_values((size,), dtype, 1)
        wide = x.astype("f8")
        layer = make()
        assert_close(layer.forward(x), function(wide).astype(dtype), dtype)
        expected = (dout.astype("f8") * derivative(wide)).astype(dtype)
        assert_close(layer.backward(dout), expected, dtype, 10)  # 1 - y loses digits, times x.


@each_layer
def test_results_do_not_depend_on_threads(level: str, name: str) -> None:
    x, dout = inputs(5 * RUN + 3, "f4"), normal_values((5 * RUN + 3,), "f4", 1)
    results = []
    for threads in (1, 2, 3):
        with fastconv.num_threads(threads):
            layer = LAYERS[name][0]()
            results.append((layer.forward(x), layer.backward(dout)))
    for out, dx in results[1:]:
        assert_same(out, results[0][0])
        assert_same(dx, results[0][1])


@each_layer
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(name: str, layout: str) -> None:
    shape, laid = (3, 5, 7), LAYOUTS[layout]
    x, dout = inputs(105, "f4").reshape(shape), normal_values(shape, "f4", 1)
    known, layer = LAYERS[name][0](), LAYERS[name][0]()
    out = layer.forward(laid(x))
    assert_same(out, known.forward(x))
    assert_same(layer.backward(laid(dout)), known.backward(dout))
    assert out.flags.carray


@each_layer
@each_dtype
def test_numbers_without_a_neighbour(level: str, name: str, dtype: str) -> None:
    """NaN stays NaN in results and in gradients, and infinities give the limits."""
    layer = LAYERS[name][0]()
    for size in (1, 17, BLOCK + 1):
        x = np.full(size, np.nan, dtype)
        assert np.isnan(layer.forward(x)).all()
        dx = layer.backward(np.full(size, np.nan, dtype))
        assert np.isnan(dx).all()
    low, high = layer.forward(np.array([-np.inf, np.inf], dtype))
    limits = {
        "Relu6": (0, 6),
        "Sigmoid": (0, 1),
        "HardSigmoid": (0, 1),
        "LeakyRelu": (-np.inf,) * 2,
    }
    kind = name.partition("-")[0]
    if kind in limits:
        assert high == abs(limits[kind][1])
        assert low == limits[kind][0] or name == "LeakyRelu-flat"  # 0 * inf is NaN


@each_dtype
def test_derivatives_at_the_bounds(level: str, dtype: str) -> None:
    """At a bound, and where a result is at its limit, gradients are those of the outer side."""
    zeros = np.array([0.0, -0.0], dtype)
    ones = np.ones(2, dtype)
    for layer, x, expected in (
        (LeakyRelu(0.25), zeros, 0.25),
        (Relu6(), zeros, 0),
        (Relu6(), np.array([6, np.inf], dtype), 0),
        (HardSigmoid(0.25), np.array([-2, 2], dtype), 0),
        (HardSigmoid(0.25), np.array([-np.inf, np.inf], dtype), 0),
        (HardSwish(), np.array([-4, -100], dtype), 0),
        (HardSwish(), np.array([4, 100], dtype), 1),
        (Sigmoid(), np.array([-np.inf, np.inf], dtype), 0),
    ):
        layer.forward(x)
        np.testing.assert_array_equal(layer.backward(ones), expected)
    out = LeakyRelu().forward(zeros)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(zeros))


@pytest.mark.parametrize(
    ("layer", "activation"),
    [
        (LeakyRelu(), "leaky_relu"),
        (Relu6(), "relu6"),
        (Sigmoid(), "sigmoid"),
        (HardSigmoid(), "hardsigmoid"),
        (HardSwish(), "hardswish"),
        (SiLU(), "silu"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_layers_are_the_activations_of_convolution(
    level: str, dtype: str, layer: Any, activation: str
) -> None:
    x = inputs(1000, dtype).reshape(1, 1, 20, 50)
    fused = fastconv.conv2d(x, np.ones((1, 1, 1, 1), dtype), activation=activation)
    assert_same(layer.forward(x), fused)
    assert layer.function == ACTIVATIONS[activation]


@each_layer
def test_only_what_is_needed_is_kept(name: str) -> None:
    """A mask has a byte per number; what is not a mask is the input or the output itself."""
    layer, x = LAYERS[name][0](), inputs(60, "f4")
    out = layer.forward(x)
    arrays = [value for value in vars(layer).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 1
    assert arrays[0].dtype == np.bool_ or arrays[0] is x or arrays[0] is out
    layer.forget()
    assert not any(isinstance(value, np.ndarray) for value in vars(layer).values())
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        layer.backward(x)
    assert repr(pickle.loads(pickle.dumps(layer))) == repr(layer)


@pytest.mark.parametrize("make", [LeakyRelu, HardSigmoid])
def test_refused_slopes(make: Any) -> None:
    for wrong in (-0.1, float("nan"), float("inf")):
        refused(ValueError, f"^slope must be a number from 0 on, got {wrong}$", make, wrong)
    refused(TypeError, "^slope must be a number, got None$", make, None)


def test_pytorch(torch: Any) -> None:
    f = torch.nn.functional
    x, dout = inputs(1000, "f4"), normal_values((1000,), "f4", 1)
    for layer, function in (
        (LeakyRelu(), f.leaky_relu),
        (LeakyRelu(0.3), lambda t: f.leaky_relu(t, 0.3)),
        (Relu6(), f.relu6),
        (Sigmoid(), torch.sigmoid),
        (HardSigmoid(1 / 6), f.hardsigmoid),
        (HardSwish(), f.hardswish),
        (SiLU(), f.silu),
    ):
        tensor = torch.from_numpy(x.copy()).requires_grad_()
        expected = function(tensor)
        expected.backward(torch.from_numpy(dout))
        assert_close(layer.forward(x), expected.detach().numpy(), "f4")
        assert_close(layer.backward(dout), tensor.grad.numpy(), "f4", 4)


def test_no_two_layers_share_a_name() -> None:
    """The 61st Relu and the first Relu6 are told apart."""
    net = Sequential((1, 2, 2)).add(*(Relu() for _ in range(61)), Relu6())
    assert len(net.layers) == 62
    assert list(net.layers)[-2:] == ["Relu61", "Relu6_1"]
    assert isinstance(net.layers["Relu61"], Relu)


def test_layers_in_networks(capsys: pytest.CaptureFixture[str]) -> None:
    """Networks name the layers, show them, train through them, and copy them."""
    net = Sequential((1, 6, 6), seed=0).convolution(3, 3)
    net.add(LeakyRelu(0.2), HardSwish()).affine(8).add(SiLU(), Relu6(), HardSigmoid()).affine(2)
    names = ["Conv1", "LeakyRelu1", "HardSwish1", "Affine1", "SiLU1", "Relu6_1", "HardSigmoid1"]
    assert list(net.layers) == [*names, "Affine2"]
    net.summary()
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    x, t = normal_values((4, 1, 6, 6)), np.array([0, 1, 1, 0])
    grads = net.gradient(x, t)
    assert all(np.isfinite(grad).all() and grad.any() for grad in grads.values())
    other = pickle.loads(pickle.dumps(net))
    assert_same(other.predict(x), net.predict(x))


# ------------------------------------------------------------------------------------------ sums


@each_dtype
def test_sums(level: str, threads: int, dtype: str) -> None:
    """A sum is NumPy's to the last bit, in a new array or in one of its own."""
    for size in SIZES:
        a, b = normal_values((size,), dtype), normal_values((size,), dtype, 1)
        expected = a + b
        assert_same(add(a, b), expected)
        for number in (0, 1):
            pair = [a.copy(), b.copy()]
            assert add(pair[0], pair[1], out=pair[number]) is pair[number]
            assert_same(pair[number], expected)
            assert_same(pair[1 - number], (b, a)[number])
        assert_same(add(a, a), a + a)


@each_dtype
def test_rectified_sums(level: str, threads: int, dtype: str) -> None:
    """The two steps give the same results and masks, NaN and infinities included."""
    for size in SIZES:
        a, b = normal_values((size,), dtype), normal_values((size,), dtype, 1)
        a[::7], b[::5] = np.nan, np.inf
        a[3::10], b[3::10] = 1, -1
        total, mask = fastconv.relu(a + b, return_mask=True)
        out, made = add_relu(a, b, return_mask=True)
        assert_same(out, total)
        assert_same(made, mask)
        assert_same(add_relu(a, b), total)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_of_layouts(layout: str) -> None:
    laid = LAYOUTS[layout]
    a, b = normal_values((3, 5, 7)), normal_values((3, 5, 7), seed=1)
    for pair in ((laid(a), b), (a, laid(b)), (laid(a), laid(b))):
        np.testing.assert_array_equal(add(*pair), a + b)
        np.testing.assert_array_equal(add_relu(*pair), fastconv.relu(a + b))
        assert add_relu(*pair).dtype == np.float32
    if layout not in ("read-only", "byte-swapped", "unaligned-swapped"):
        into = laid(a)
        assert add(into, b, out=into) is into
        np.testing.assert_array_equal(into, a + b)


def test_sums_that_are_left_to_numpy() -> None:
    """Other dtypes than floats, two dtypes, and shapes that are broadcast."""
    a, b = normal_values((3, 4)), normal_values((4,), seed=1)
    integers = np.arange(12).reshape(3, 4) - 6
    for pair in ((a, b), (a, integers), (a, a.astype("f8")), (a.astype("f2"), a)):
        assert_same(add(*pair), pair[0] + pair[1])
        assert_same(add_relu(*pair), fastconv.relu(pair[0] + pair[1]))
    assert_same(add(integers, integers), 2 * integers)
    assert_same(add_relu(integers, integers), np.maximum(2.0 * integers, 0))


@each_dtype
def test_products_with_a_mask(level: str, threads: int, dtype: str) -> None:
    for size in SIZES:
        x, mask = normal_values((size,), dtype), np.random.default_rng(2).random(size) < 0.5
        factors = np.where(mask, np.float32(0.3), np.float32(2))
        expected = (x.astype(np.result_type(x, "f4")) * np.where(mask, 0.3, 2)).astype(dtype)
        assert_close(scale(x, mask, 0.3, 2), expected, dtype)
        if dtype == "f4":
            assert_same(scale(x, mask, 0.3, 2), x * factors)


# --------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("ratio", [0.0, 1e-9, 0.3, 0.5, 1.0])
def test_masks_are_those_of_the_generator(level: str, threads: int, ratio: float) -> None:
    """The kernel draws what the generator would, and leaves it in the same state."""
    ours, theirs = np.random.default_rng(4), np.random.default_rng(4)
    for generator in (ours, theirs):
        generator.integers(5, dtype=np.uint32)  # Leaves half of a number behind.
    for size in (0, 1, 1023, 1024, 1025, RUN, RUN + 1, 5 * RUN + 3):
        x = normal_values((size,))
        out, mask = drop(x, ratio, 2.0, ours)
        expected = theirs.random(size) > ratio
        assert_same(mask, expected)
        assert_same(out, x * np.where(expected, np.float32(2), np.float32(0)))
        assert ours.bit_generator.state == theirs.bit_generator.state
    assert ours.integers(5, dtype=np.uint32) == theirs.integers(5, dtype=np.uint32)


class Halves(np.random.Generator):
    """A generator whose numbers are all the same."""

    def random(self, size: Any = None) -> Any:  # type: ignore[override]
        return np.full(size, 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.Generator(np.random.MT19937(3)),
        lambda: np.random.Generator(np.random.PCG64DXSM(3)),
        lambda: np.random.Generator(np.random.Philox(3)),
        lambda: Halves(np.random.PCG64(3)),
        lambda: np.random.RandomState(3),
    ],
)
def test_other_generators_draw_themselves(make: Callable[[], Any]) -> None:
    x = normal_values((3, 1000))
    layer = Dropout(0.4, rng=make())
    layer.forward(x)
    assert_same(layer.mask, make().random(x.shape) > 0.4)


@each_dtype
@pytest.mark.parametrize("inverted", [False, True])
def test_dropout_of_several_runs(level: str, threads: int, dtype: str, inverted: bool) -> None:
    x, dout = normal_values((3, RUN + 7), dtype), normal_values((3, RUN + 7), dtype, 1)
    layer = Dropout(0.25, inverted=inverted, rng=np.random.default_rng(3))
    out, dx = layer.forward(x), layer.backward(dout)
    kept = np.random.default_rng(3).random(x.shape) > 0.25
    assert_same(layer.mask, kept)
    factor = 1 / 0.75 if inverted else 1
    for result, given in ((out, x), (dx, dout)):
        assert_close(result, (given.astype("f8") * kept * factor).astype(dtype), dtype)
        assert (result[~kept] == 0).all()


def test_runs_far_into_the_stream() -> None:
    """A run may begin after more than 2^32 steps; the state of a generator says what follows."""
    ours, theirs = np.random.default_rng(1), np.random.default_rng(1)
    for generator in (ours, theirs):
        generator.bit_generator.advance(2**70 + 12345)  # type: ignore[attr-defined]
    x = normal_values((2 * RUN,))
    assert_same(drop(x, 0.5, 1.0, ours)[1], theirs.random(x.size) > 0.5)


# --------------------------------------------------------------------------------------- softmax


def probabilities(x: Array) -> Array:
    wide = x.astype("f8")
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@each_dtype
def test_softmax(level: str, threads: int, dtype: str) -> None:
    """Rows of every length around vectors, few and many, small numbers and large ones."""
    for columns in (*EDGE_SIZES, 10, 1000, RUN + 1):
        for rows in (1, 3, 70 if columns < 100 else 9):
            for size in (0.01, 1, 50):
                x = (size * normal_values((rows, columns), "f8", columns)).astype(dtype)
                y = _loss.softmax(x)
                computed = np.result_type(dtype, "f4")
                assert_close(y, probabilities(x).astype(computed), computed)
                np.testing.assert_allclose(y.sum(axis=1, dtype="f8"), 1, rtol=1e-6)


def test_softmax_of_rows_does_not_depend_on_threads(level: str) -> None:
    x = normal_values((300, 123))
    results = []
    for threads in (1, 2, 3):
        with fastconv.num_threads(threads):
            results.append(_loss.softmax(x))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])
    for row in (0, 150, 299):
        assert_same(_loss.softmax(x[row : row + 1]), results[0][row : row + 1])


@pytest.mark.parametrize("columns", [3, 16, 40])
def test_softmax_of_numbers_without_a_neighbour(level: str, columns: int) -> None:
    """Minus infinity has no chance; a row with NaN or infinity is NaN, and the others are not."""
    for place in (0, columns // 2, columns - 1):
        x = normal_values((4, columns), "f4")
        x[0, place], x[1, place], x[2, place] = -np.inf, np.nan, np.inf
        y = _loss.softmax(x)
        assert y[0, place] == 0
        assert_close(y[[0, 3]], probabilities(x[[0, 3]]).astype("f4"), "f4")
        assert np.isnan(y[1:3]).all()
    assert np.isnan(_loss.softmax(np.full((1, columns), -np.inf, "f4"))).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_softmax_of_layouts(layout: str) -> None:
    x = normal_values((6, 21))
    assert_same(_loss.softmax(LAYOUTS[layout](x)), _loss.softmax(x))


@each_dtype
def test_gradients_of_the_loss(level: str, threads: int, dtype: str) -> None:
    """The gradient is (y - 1 at the label) / N times what it is multiplied with."""
    for shape in ((1, 1), (3, 5), (70, 33), (9, 1000), (2, RUN + 1)):
        x = normal_values(shape, dtype)
        t = np.random.default_rng(1).integers(0, shape[1], shape[0])
        layer = SoftmaxWithLoss()
        layer.forward(x, t)
        expected = probabilities(x)
        expected[np.arange(len(t)), t] -= 1
        for dout in (1, 2.5, np.float64(3)):
            assert_close(layer.backward(dout), (expected * dout / len(t)).astype(dtype), dtype)
        each = normal_values((shape[0], 1), dtype, 3)
        wide = expected * each / len(t)
        assert_close(layer.backward(each), wide.astype(dtype), dtype)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------- bounds


def check_edges(level: str) -> None:
    """Run in a process of its own: arrays against pages that must not be touched."""
    _kernels.use(level)
    ends = [True]

    def new_array(shape: Any, dtype: Any) -> Array:
        return at_edge(np.zeros(shape, dtype), ends[0])

    for module in (_elementwise, _loss):
        module.new_array = new_array  # type: ignore[attr-defined]
    for dtype in DTYPES:
        for size in (*EDGE_SIZES, 1025, BLOCK + 1, RUN + 1):
            for ends[0] in (True, False):
                x, dout = (at_edge(inputs(size, dtype, seed), ends[0]) for seed in (0, 1))
                for make, function, _ in LAYERS.values():
                    layer = make()
                    assert_close(layer.forward(x), function(x.astype("f8")).astype(dtype), dtype)
                    layer.backward(dout)
                assert_same(add(x, dout), x + dout)
                add_relu(x, dout, return_mask=True)
                drop(x, 0.5, 2.0, np.random.default_rng(0))
                scale(x, at_edge(np.asarray(x > 0), ends[0]), 1, 2)
                loss = SoftmaxWithLoss()
                loss.forward(at_edge(x[None], ends[0]), [0])
                loss.backward()
    print("done")


@pytest.mark.skipif("sys.platform == 'win32'", reason="pages are protected with POSIX calls")
@pytest.mark.parametrize("name", _kernels.available_levels())
def test_arrays_at_the_edge_of_memory(name: str) -> None:
    result = run_python(f"import test_elementwise; test_elementwise.check_edges({name!r})")
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-2000:]
