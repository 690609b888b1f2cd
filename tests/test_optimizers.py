"""Update rules: the formulas, one pass over arrays of any kind, clipping and weight decay."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from helpers import FLOATS, LAYOUTS, Array, DType, Shape, guarded, normal_values
from hypothesis import given
from hypothesis import strategies as st
from test_bounds import at_edge

import fastconv
from fastconv import _kernels
from fastconv.models import Sequential
from fastconv.training import SGD, AdaGrad, Adam, AdamW, Momentum, Optimizer, RMSprop

EPSILON = 1e-7
RUN = 8 << 10  # The kernel's items are runs of this number of numbers.
WRITABLE = sorted(set(LAYOUTS) - {"read-only"})
each_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=str)

# --- The definition -------------------------------------------------------------------------

Rule = Callable[[float, int, Array, dict[str, Array]], Array]


def _momentum(lr: float, step: int, grad: Array, kept: dict[str, Array]) -> Array:
    kept["v"] = 0.9 * kept.get("v", 0 * grad) - lr * grad
    return kept["v"]


def _nesterov(lr: float, step: int, grad: Array, kept: dict[str, Array]) -> Array:
    return 0.9 * _momentum(lr, step, grad, kept) - lr * grad


def _adagrad(lr: float, step: int, grad: Array, kept: dict[str, Array]) -> Array:
    kept["h"] = kept.get("h", 0 * grad) + grad**2
    return -lr * grad / (np.sqrt(kept["h"]) + EPSILON)


def _rmsprop(lr: float, step: int, grad: Array, kept: dict[str, Array]) -> Array:
    kept["h"] = 0.99 * kept.get("h", 0 * grad) + 0.01 * grad**2
    return -lr * grad / (np.sqrt(kept["h"]) + EPSILON)


def _adam(lr: float, step: int, grad: Array, kept: dict[str, Array]) -> Array:
    m = kept["m"] = 0.9 * kept.get("m", 0 * grad) + 0.1 * grad
    v = kept["v"] = 0.999 * kept.get("v", 0 * grad) + 0.001 * grad**2
    return -lr * sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + EPSILON)


def nesterov(lr: float = 0.01, **options: Any) -> Momentum:
    return Momentum(lr, nesterov=True, **options)


def adamw(lr: float = 0.001, weight_decay: float = 0.0, **options: Any) -> AdamW:
    return AdamW(lr, weight_decay=weight_decay, **options)


RULES: dict[str, type[Any]] = {
    rule.__name__: rule for rule in (SGD, Momentum, AdaGrad, RMSprop, Adam, AdamW)
}
"""The rules by the names that a Trainer takes."""
FORMULAS: dict[str, tuple[Callable[..., Optimizer], Rule]] = {
    "SGD": (SGD, lambda lr, step, grad, kept: -lr * grad),
    "Momentum": (Momentum, _momentum),
    "Nesterov": (nesterov, _nesterov),
    "AdaGrad": (AdaGrad, _adagrad),
    "RMSprop": (RMSprop, _rmsprop),
    "Adam": (Adam, _adam),
    "AdamW": (adamw, _adam),
}
each_rule = pytest.mark.parametrize("name", FORMULAS)


def prepared(grads: dict[str, Array], options: dict[str, Any]) -> dict[str, Array]:
    """Clip gradients as the options say."""
    if limit := options.get("clip_value"):
        grads = {key: np.clip(grad, -limit, limit) for key, grad in grads.items()}
    if largest := options.get("clip_norm"):
        norm = sqrt(sum(float(np.sum(grad**2)) for grad in grads.values()))
        grads = {key: grad * min(1, largest / (norm + 1e-6)) for key, grad in grads.items()}
    return grads


def expected_step(
    name: str, step: int, params: dict[str, Array], grads: dict[str, Array], kept: Any, options: Any
) -> dict[str, Array]:
    """Compute one step with lr 0.1 in float64."""
    grads, result = prepared(grads, options), {}
    for key, param in params.items():
        decays = param.ndim > 1 or options.get("decay_biases", True)
        decay = options.get("weight_decay", 0) if decays else 0
        shrink, grad = (1.0, grads[key] + decay * param)
        if name == "AdamW":
            shrink, grad = 1 - 0.1 * decay, grads[key]
        result[key] = shrink * param + FORMULAS[name][1](0.1, step, grad, kept[key])
    return result


def in_float64(arrays: dict[str, Array]) -> dict[str, Array]:
    return {key: array.astype(np.float64) for key, array in arrays.items()}


def bits(arrays: dict[str, Array]) -> dict[str, tuple[str, Shape, bytes]]:
    return {key: (a.dtype.str, a.shape, a.tobytes()) for key, a in arrays.items()}


def large_values(shape: Shape, dtype: Any, seed: int) -> Array:
    """Draw gradients that weight decay does not cancel: quotients of what is left are no use."""
    values = normal_values(shape, dtype, seed)
    return (values + np.copysign(3, values)).astype(dtype)


def assert_five_steps(
    name: str,
    dtype: DType,
    shapes: dict[str, Shape],
    layout: Callable[[Array], Array] = np.copy,
    grad_dtype: DType | None = None,
    **options: Any,
) -> None:
    """Compare with the formula in float64, whose result is rounded to the dtype in every step."""
    params = {
        key: layout(normal_values(shape, dtype, i)) for i, (key, shape) in enumerate(shapes.items())
    }
    expected, arrays = in_float64(params), dict(params)
    kept: dict[str, dict[str, Array]] = {key: {} for key in params}
    optimizer = FORMULAS[name][0](lr=0.1, **options)
    for step in range(1, 6):
        grads = {
            key: layout(large_values(array.shape, grad_dtype or dtype, 10 * step + i))
            for i, (key, array) in enumerate(params.items())
        }
        before = bits(grads)
        optimizer.update(params, grads)
        assert optimizer.iter == step
        assert bits(grads) == before
        exact = expected_step(name, step, expected, in_float64(grads), kept, options)
        for key, array in params.items():
            expected[key] = exact[key].astype(dtype).astype(np.float64)
            assert array is arrays[key]
            assert array.dtype.newbyteorder("=") == dtype
            scale = max(1.0, float(np.abs(expected[key]).max(initial=0)))
            tolerance = 8 * float(np.finfo(dtype).eps) * scale
            np.testing.assert_allclose(in_float64(params)[key], expected[key], 0, tolerance)
    for variable in optimizer.kept.values():
        for key, array in variable.items():
            assert array.shape == params[key].shape
            assert array.dtype == (np.float64 if dtype == np.float64 else np.float32)


# --- The formulas ---------------------------------------------------------------------------

SHAPES: list[Shape] = [
    (),
    (0,),
    (1,),
    (3, 4),
    (2, 3, 4, 5),
    (RUN - 1,),
    (RUN,),
    (RUN + 1,),
    (5, RUN + 3),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_dtype
@each_rule
def test_formula(level: str, threads: int, name: str, dtype: DType, shape: Shape) -> None:
    assert_five_steps(name, dtype, {"W1": shape, "b1": (5,)})


OPTIONS: dict[str, dict[str, Any]] = {
    "decay": {"weight_decay": 0.01},
    "decay of weights only": {"weight_decay": 0.01, "decay_biases": False},
    "norm": {"clip_norm": 0.5},
    "large norm": {"clip_norm": 1e4},
    "value": {"clip_value": 0.25},
    "norm and decay": {"clip_norm": 100.0, "weight_decay": 0.01},
    "value and decay": {"clip_value": 0.25, "weight_decay": 0.01, "decay_biases": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@each_dtype
@each_rule
def test_options(
    level: str, threads: int, name: str, dtype: DType, options: dict[str, Any]
) -> None:
    assert_five_steps(name, dtype, {"W1": (3, 4), "b1": (RUN + 7,), "W2": (2, RUN)}, **options)


@pytest.mark.parametrize("layout", WRITABLE)
@each_rule
def test_any_layout(name: str, layout: str) -> None:
    several: list[dict[str, Any]] = [
        {},
        {"weight_decay": 0.01, "clip_norm": 99.0, "decay_biases": False},
    ]
    for options in several:
        shapes: dict[str, Shape] = {"W1": (3, 5, 7, 2), "W2": (RUN // 8 + 1, 17), "b1": (7,)}
        assert_five_steps(name, np.dtype("f4"), shapes, LAYOUTS[layout], **options)


@pytest.mark.parametrize("grad_dtype", FLOATS, ids=str)
@each_dtype
@each_rule
def test_gradients_of_another_dtype(name: str, dtype: DType, grad_dtype: DType) -> None:
    assert_five_steps(name, dtype, {"W1": (3, 40)}, grad_dtype=grad_dtype, clip_norm=1.0)


@pytest.mark.parametrize("grad_dtype", ["i1", "i8", "u2", "?"])
def test_gradients_that_are_no_floats(grad_dtype: str) -> None:
    grad = np.arange(-3, 4).astype(grad_dtype)
    params = {"W1": np.zeros(7, np.float32)}
    SGD(0.5).update(params, {"W1": grad})
    np.testing.assert_array_equal(params["W1"], -0.5 * grad.astype(np.float32))


@given(data=st.data(), name=st.sampled_from(sorted(FORMULAS)))
def test_many_arrays_at_once(data: st.DataObject, name: str) -> None:
    """Networks have arrays of all sizes, which runs begin and end in."""
    sizes = st.integers(0, 70) | st.integers(RUN - 70, RUN + 70)
    shapes = data.draw(st.lists(sizes, max_size=12))
    options = data.draw(st.sampled_from([{}, *OPTIONS.values()]))
    dtype = data.draw(st.sampled_from(FLOATS))
    assert_five_steps(name, dtype, {f"W{i}": (n,) for i, n in enumerate(shapes)}, **options)


@each_rule
def test_parameters_of_several_dtypes_in_one_network(level: str, name: str) -> None:
    together = {f"W{i}": normal_values((RUN + 9,), dtype, i) for i, dtype in enumerate(FLOATS)}
    apart = {key: array.copy() for key, array in together.items()}
    grads = {key: normal_values(array.shape, array.dtype, 7) for key, array in together.items()}
    rules = {key: FORMULAS[name][0](0.1) for key in apart}
    rule = FORMULAS[name][0](0.1)
    for _ in range(3):
        rule.update(together, grads)
        for key, alone in rules.items():
            alone.update({key: apart[key]}, {key: grads[key]})
    for key, array in together.items():
        np.testing.assert_array_equal(array, apart[key])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@each_rule
def test_same_bits_for_every_number_of_threads(
    level: str, name: str, options: dict[str, Any]
) -> None:
    shapes = [(3,), (100, RUN // 16), (17,), (RUN - 30,), (5, 5), (3 * RUN + 1,)]
    results = []
    for threads in (1, 2, 3, 7):
        with fastconv.num_threads(threads):
            params = {f"W{i}": normal_values(shape, "f4", i) for i, shape in enumerate(shapes)}
            rule = FORMULAS[name][0](0.1, **options)
            for step in range(3):
                rule.update(
                    params, {k: normal_values(a.shape, "f4", step) for k, a in params.items()}
                )
            results.append((bits(params), {k: bits(kept) for k, kept in rule.kept.items()}))
    assert all(result == results[0] for result in results)


@each_dtype
@each_rule
def test_nothing_beyond_the_arrays_is_touched(level: str, name: str, dtype: DType) -> None:
    for count in (1, 15, 16, 17, 65):
        values = normal_values((count,), dtype)
        plain, rule = {"W1": values.copy()}, FORMULAS[name][0](0.1, clip_norm=1.0)
        rule.update(plain, {"W1": values})
        with guarded((count,), dtype) as array:
            array[...] = values
            FORMULAS[name][0](0.1, clip_norm=1.0).update({"W1": array}, {"W1": values})
            np.testing.assert_array_equal(array, plain["W1"])
        for end in (True, False):
            array, other = at_edge(values, end), FORMULAS[name][0](0.1, clip_norm=1.0)
            for variable, kept in rule.kept.items():
                other.kept[variable] = {"W1": at_edge(0 * kept["W1"], end)}
            other.update({"W1": array}, {"W1": at_edge(values, end)})
            np.testing.assert_array_equal(array, plain["W1"])


def test_what_lies_between_strided_parameters_is_left_alone() -> None:
    spread = np.full((8, 8), 7, np.float32)
    Adam(lr=0.5).update({"W1": spread[1::2, ::2]}, {"W1": np.ones((4, 4), np.float32)})
    assert (spread[1::2, ::2] < 7).all()
    spread[1::2, ::2] = 7
    assert (spread == 7).all()


@each_rule
def test_pytorchs_optimiser(torch: Any, name: str) -> None:
    optim = torch.optim
    theirs: Callable[..., Any] = {
        "SGD": lambda p, **o: optim.SGD(p, lr=0.05, **o),
        "Momentum": lambda p, **o: optim.SGD(p, lr=0.05, momentum=0.9, **o),
        "Nesterov": lambda p, **o: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, **o),
        "AdaGrad": lambda p, **o: optim.Adagrad(p, lr=0.05, eps=EPSILON, **o),
        "RMSprop": lambda p, **o: optim.RMSprop(p, lr=0.05, alpha=0.99, eps=EPSILON, **o),
        "Adam": lambda p, **o: optim.Adam(p, lr=0.05, **o),
        "AdamW": lambda p, **o: optim.AdamW(p, lr=0.05, **o),
    }[name]
    params = {"W1": normal_values((3, RUN), np.float64), "b1": normal_values((7,), np.float64)}
    tensors = {key: torch.tensor(array, requires_grad=True) for key, array in params.items()}
    other = theirs(list(tensors.values()), weight_decay=0.2)
    optimizer = FORMULAS[name][0](lr=0.05, weight_decay=0.2, clip_norm=3.0)
    for step in range(5):
        grads = {key: normal_values(array.shape, np.float64, step) for key, array in params.items()}
        for key, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[key])
        torch.nn.utils.clip_grad_norm_(list(tensors.values()), 3.0)
        if name.startswith("Adam"):  # PyTorch adds it to the root of the corrected mean.
            other.param_groups[0]["eps"] = EPSILON / sqrt(1 - 0.999 ** (step + 1))
        other.step()
        optimizer.update(params, grads)
        for key, tensor in tensors.items():
            np.testing.assert_allclose(params[key], tensor.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_arguments_of_the_rules() -> None:
    one, grad = np.array([1.0]), {"W1": np.array([2.0])}
    params = {"W1": one}
    momentum = Momentum(0.1, 0.5)
    for expected in (0.8, 0.5):  # v = -0.2, then -0.1 - 0.2
        momentum.update(params, grad)
        assert one[0] == pytest.approx(expected)
    params["W1"] = one = np.array([1.0])
    momentum = Momentum(0.1, 0.5, nesterov=True)
    for expected in (0.7, 0.35):  # half of v, and -0.2 again
        momentum.update(params, grad)
        assert one[0] == pytest.approx(expected)
    params["W1"] = one = np.array([1.0])
    RMSprop(0.1, 0.75).update(params, grad)  # h = 1
    assert one[0] == pytest.approx(0.8)
    params["W1"] = one = np.array([1.0])
    Adam(0.1, 0.0, 0.75).update(params, grad)  # m = 2, v = 1, lr = 0.05
    assert one[0] == pytest.approx(0.9)
    params["W1"] = one = np.array([1.0])
    AdamW(0.1, 0.0, 0.75, 0.5).update(params, grad)  # the same, from 0.95 on
    assert one[0] == pytest.approx(0.85)
    assert AdamW().weight_decay == 0.01


# --- Arrays that overlap --------------------------------------------------------------------


@each_rule
def test_gradient_that_is_the_parameter(name: str) -> None:
    values = normal_values((2 * RUN,), "f4")
    params, same = {"W1": values.copy()}, {"W1": values.copy()}
    FORMULAS[name][0](0.1).update(params, {"W1": values})
    FORMULAS[name][0](0.1).update(same, same)
    np.testing.assert_array_equal(same["W1"], params["W1"])


@each_rule
def test_gradient_that_overlaps_the_parameter(name: str) -> None:
    memory = normal_values((2 * RUN + 1,), "f4")
    params, grad = {"W1": memory[1:].copy()}, memory[:-1].copy()
    FORMULAS[name][0](0.1).update(params, {"W1": grad})
    FORMULAS[name][0](0.1).update({"W1": memory[1:]}, {"W1": memory[:-1]})
    np.testing.assert_array_equal(memory[1:], params["W1"])


@pytest.mark.parametrize("count", [4, 3 * RUN])
def test_parameter_of_two_names_is_changed_twice(threads: int, count: int) -> None:
    weight = np.zeros(count)
    SGD(1.0).update(
        {"W1": weight, "W2": weight}, {"W1": np.full(count, 2.0), "W2": -np.ones(count)}
    )
    np.testing.assert_array_equal(weight, -1)


def test_parameters_that_share_a_gradient() -> None:
    params, grad = {"W1": np.zeros(3), "W2": np.ones(3)}, np.ones(3)
    SGD(1.0).update(params, {"W1": grad, "W2": grad})
    assert params["W1"].tolist() == [-1] * 3
    assert params["W2"].tolist() == [0] * 3


def test_which_arrays_the_kernel_takes() -> None:
    """It takes those of networks, in any number; others go by way of copies."""
    memory = np.zeros((4, 8), np.float32)
    a, b, c, d = memory
    takes = _kernels.optimizers.takes
    assert takes([], [], ())
    assert takes([a, b], [c, d], ())
    assert takes([a, b], [c, c], ())
    assert takes([a], [b], ([c], [d]))
    half = np.zeros(8, np.float16)
    assert takes([half], [half.copy()], ([a],))
    assert takes([half], [b], ([a],))
    assert takes([memory[:0]], [memory[:0]], ())
    assert not takes([a, a], [c, d], ())
    assert not takes([a], [a], ())
    assert not takes([memory.reshape(-1)[:9]], [memory.reshape(-1)[8:17]], ())
    assert not takes([a], [b], ([a],))
    assert not takes([a], [b], ([None],))
    assert not takes([half], [half.copy()], ([half.copy()],))
    for other in (None, [0.0] * 8, b[:7], b.astype("f8"), b.astype(">f4"), b.astype("i4"), b[None]):
        assert not takes([a], [other], ())
    for other in (b[::2], b.astype("g"), b.astype("c8"), LAYOUTS["read-only"](b)):
        assert not takes([other], [other.copy()], ())
    assert not takes([memory.T], [memory.T.copy()], ())
    assert not takes([LAYOUTS["unaligned"](b)], [c], ())


# --- Clipping -------------------------------------------------------------------------------


@each_dtype
def test_norm_of_all_gradients(level: str, threads: int, dtype: DType) -> None:
    grads = [normal_values((n,), dtype, n) for n in (0, 1, 16, 17, RUN - 1, RUN, 3 * RUN + 5)]
    expected = sum(float(np.sum(grad.astype(np.float64) ** 2)) for grad in grads)
    actual = _kernels.optimizers.sum_of_squares(grads, threads)
    assert actual == pytest.approx(expected, rel=1e-13)


def test_norm_is_not_rounded_to_infinity() -> None:
    """Squares of large float32 numbers are infinite in float32."""
    params = {"W1": np.zeros(2, np.float32)}
    SGD(1.0, clip_norm=5.0).update(params, {"W1": np.array([3e30, -4e30], np.float32)})
    np.testing.assert_allclose(params["W1"], [-3, 4], rtol=1e-6)


@pytest.mark.parametrize("kind", [SGD, type("Own", (SGD,), {"_update": lambda *_: None})])
def test_gradients_that_are_no_numbers(kind: Any) -> None:
    """As in PyTorch: NaN makes all NaN, and infinity makes finite gradients 0."""

    def step(grad: float, **options: Any) -> list[float]:
        params = {"W1": np.zeros(2), "b1": np.zeros(1)}
        SGD(1.0, **options).update(params, {"W1": np.array([1.0, grad]), "b1": np.ones(1)})
        return [*params["W1"].tolist(), *params["b1"].tolist()]

    np.testing.assert_array_equal(step(nan, clip_norm=1.0), [nan] * 3)
    np.testing.assert_array_equal(step(inf, clip_norm=1.0), [0, nan, 0])
    np.testing.assert_array_equal(step(nan, clip_value=0.5), [-0.5, nan, -0.5])
    np.testing.assert_array_equal(step(-inf, clip_value=0.5), [-0.5, 0.5, -0.5])


class NumpyMomentum(Optimizer):
    """Momentum as a formula of NumPy, which the base class calls piece by piece."""

    variables = ("v",)

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        assert param.shape == grad.shape == kept[0].shape
        kept[0][...] = 0.9 * kept[0] - self.lr * grad
        param += kept[0]


# --- What is refused ------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("lr", [0, -0.1, nan])
def test_learning_rate_is_positive(name: str, lr: float) -> None:
    with pytest.raises(ValueError, match=f"lr must be a positive number, got {lr}"):
        FORMULAS[name][0](lr=lr)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be a number from 0 on, got -0.1"),
        ({"weight_decay": nan}, ValueError, "weight_decay must be a number from 0 on, got nan"),
        ({"weight_decay": "0.1"}, TypeError, "weight_decay must be a number from 0 on, got '0.1'"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be a positive number, got 0"),
        ({"clip_norm": inf}, ValueError, "clip_norm must be a positive number, got inf"),
        ({"clip_value": -1}, ValueError, "clip_value must be a positive number, got -1"),
        ({"clip_value": "1"}, TypeError, "clip_value must be a positive number, got '1'"),
        (
            {"clip_value": 1, "clip_norm": 1},
            ValueError,
            "clip_norm and clip_value exclude each other, got both",
        ),
    ],
)
@each_rule
def test_bad_options(
    name: str, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        FORMULAS[name][0](**options)


@each_rule
def test_bad_gradients_change_nothing(name: str) -> None:
    params = {"W1": np.ones((2, 3)), "b1": np.ones(3)}
    optimizer = FORMULAS[name][0]()
    message = re.escape("the gradient of b1 must have shape (3,), got (1,)")
    with pytest.raises(ValueError, match=message):
        optimizer.update(params, {"W1": np.ones((2, 3)), "b1": np.ones(1)})
    with pytest.raises(KeyError, match="b1"):
        optimizer.update(params, {"W1": np.ones((2, 3))})
    grads: Any = {"W1": np.ones((2, 3)), "b1": [1, 1, 1]}
    with pytest.raises(TypeError, match=r"gradient of b1 must be an array of numbers, got \[1"):
        optimizer.update(params, grads)
    for dtype in (int, np.longdouble, complex):
        whole = {**params, "b1": np.ones(3, dtype)}
        with pytest.raises(TypeError, match=r"b1 must be an array of floats, got array\(\[1"):
            optimizer.update(whole, {**params})
    locked = {**params, "b1": LAYOUTS["read-only"](np.ones(3))}
    with pytest.raises(ValueError, match="b1 must be writable, it is read-only"):
        optimizer.update(locked, {"W1": np.ones((2, 3)), "b1": np.ones(3)})
    for pair in ((None, params), (params, [1])):
        with pytest.raises(TypeError, match=r"must map names to arrays, got (NoneType|list)"):
            optimizer.update(*pair)
    assert optimizer.iter == 0
    assert all(not kept for kept in optimizer.kept.values())
    for array in params.values():
        np.testing.assert_array_equal(array, 1)


@pytest.mark.parametrize("kind", [Momentum, AdaGrad, RMSprop, Adam, AdamW])
def test_of_another_network_changes_nothing(kind: Callable[[], Optimizer]) -> None:
    """Even the parameters that have the same shape in both networks stay unchanged."""
    rule = kind()
    rule.update({"A1": np.ones(2), "W1": np.ones(3)}, {"A1": np.ones(2), "W1": np.ones(3)})
    params = {"A1": np.ones(2), "W1": np.ones(4)}
    message = re.escape("what is kept for W1 must have shape (4,), got (3,)")
    with pytest.raises(ValueError, match=message):
        rule.update(params, {"A1": np.ones(2), "W1": np.ones(4)})
    assert rule.iter == 1
    for array in params.values():
        np.testing.assert_array_equal(array, 1)


@pytest.mark.parametrize("kind", [Momentum, NumpyMomentum])
def test_read_only_kept_arrays_change_nothing(kind: Callable[[float], Optimizer]) -> None:
    rule = kind(0.1)
    rule.kept["v"]["W1"] = LAYOUTS["read-only"](np.ones(3))
    params = {"W1": np.ones(3)}
    with pytest.raises(ValueError, match="what is kept for W1 must be writable, it is read-only"):
        rule.update(params, {"W1": np.ones(3)})
    assert rule.iter == 0
    assert params["W1"].tolist() == rule.kept["v"]["W1"].tolist() == [1, 1, 1]


def test_base_class_has_no_rule() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Optimizer(0.1)  # type: ignore[abstract]


# --- Rules of users -------------------------------------------------------------------------


class Inherited(Momentum):
    """A rule that does something before the formula that it inherits."""

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        super()._update(param, 2 * grad, *kept)


class InheritedAdamW(AdamW):
    """A rule that changes nothing of the one that it inherits."""

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        super()._update(param, grad, *kept)


def train_both(first: Optimizer, second: Optimizer, dtype: Any, factor: float = 1.0) -> None:
    """Expect the same of two rules, where the second one is given gradients times a factor."""
    layouts = [LAYOUTS["contiguous"], LAYOUTS["fortran"], LAYOUTS["byte-swapped"]]
    shapes = [(7, 5), (40000,), (3, 4, 5)]
    params, same = (
        {f"W{i}": layouts[i](normal_values(shape, dtype, i)) for i, shape in enumerate(shapes)}
        for _ in range(2)
    )
    for step in range(4):
        grads = {key: normal_values(array.shape, dtype, step) for key, array in params.items()}
        first.update(params, grads)
        second.update(same, {key: (factor * grad).astype(dtype) for key, grad in grads.items()})
    tolerance = 8 * float(np.finfo(dtype).eps)
    for key, array in in_float64(params).items():
        np.testing.assert_allclose(array, same[key].astype(np.float64), tolerance, tolerance)


@pytest.mark.parametrize("options", [{}, *OPTIONS.values()], ids=["none", *OPTIONS])
@each_dtype
def test_rules_of_users_have_the_options(dtype: DType, options: dict[str, Any]) -> None:
    train_both(NumpyMomentum(0.1, **options), Momentum(0.1, **options), dtype)
    train_both(InheritedAdamW(0.1, **options), AdamW(0.1, **options), dtype)


@each_dtype
def test_rules_of_users_that_inherit_a_formula(dtype: DType) -> None:
    train_both(Inherited(0.1), Momentum(0.1), dtype, factor=2.0)


def test_rules_that_were_pickled_before_there_were_options() -> None:
    rule = pickle.loads(pickle.dumps(Momentum(0.5)))
    for name in ("weight_decay", "decay_biases", "clip_norm", "clip_value", "nesterov"):
        del rule.__dict__[name]
    params = {"W1": np.ones(2)}
    rule.update(params, {"W1": np.ones(2)})
    assert params["W1"].tolist() == [0.5, 0.5]


def test_networks_parameters(level: str, threads: int) -> None:
    net = Sequential((2, 6, 6), seed=0).convolution(3, 3).affine(4)
    copies = {name: array.copy() for name, array in net.params.items()}
    grads = {name: normal_values(array.shape, "f4") for name, array in copies.items()}
    Adam().update(net.params, grads)
    Adam().update(copies, grads)
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, copies[name])
