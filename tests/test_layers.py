"""Layers against differences, textbook formulas and PyTorch; dtypes, states, copies, errors."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import reference
import textbook
from gradients import assert_gradient
from helpers import LAYOUTS, Array, Shape, assert_close, assert_same, normal_values, refused
from numpy.typing import DTypeLike

from fastconv import layers
from fastconv.layers import (
    Affine,
    AveragePooling,
    AveragePooling1D,
    BatchNormalization,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Convolution1D,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    LeakyRelu,
    LocalResponseNormalization,
    MeanSquaredError,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
    SoftmaxWithLoss,
)

DTYPES = ["f2", "f4", "f8"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
GRADIENTS = {"W": "dW", "b": "db", "gamma": "dgamma", "beta": "dbeta"}


@dataclass(frozen=True)
class Case:
    """One layer with one shape of input; ``make`` is given a function that draws parameters."""

    make: Callable[[Callable[..., Array]], Any]
    shape: Shape
    arguments: tuple[Any, ...] = ()
    empty: bool = field(default=True)  # whether a batch may be

    def layer(self, dtype: DTypeLike = "f8") -> Any:
        return self.make(lambda *shape, seed=5: normal_values(shape, dtype, seed))

    def input(self, dtype: DTypeLike = "f8", count: int | None = None, seed: int = 0) -> Array:
        count = self.shape[0] if count is None else count
        return normal_values((count, *self.shape[1:]), dtype, seed)

    def forward(self, layer: Any, x: Any) -> Any:
        return layer.forward(x, *self.arguments)


def normalization(train_flg: bool, size: int) -> Callable[..., Any]:
    def make(draw: Callable[..., Array]) -> BatchNormalization:
        mean, var = draw(size, seed=8), np.abs(draw(size, seed=9)) + draw(1).dtype.type(0.5)
        return BatchNormalization(draw(size), draw(size, seed=7), 0.9, mean, var)

    return make


IMAGES = (3, 4, 5, 6)
SIGNALS = (3, 4, 9)
CASES = {
    "Convolution": Case(lambda draw: Convolution(draw(5, 4, 3, 2), draw(5), 2, 1), IMAGES),
    "Convolution-without-b": Case(lambda draw: Convolution(draw(5, 4, 3, 3), None), IMAGES),
    "Convolution-keywords": Case(
        lambda draw: Convolution(
            draw(6, 2, 2, 2),
            draw(6),
            (1, 2),
            ((1, 0), (2, 1)),
            dilation=2,
            groups=2,
            pad_mode="reflect",
        ),
        IMAGES,
    ),
    "Convolution1D": Case(lambda draw: Convolution1D(draw(5, 4, 3), draw(5), 2, 1), SIGNALS),
    "Convolution1D-keywords": Case(
        lambda draw: Convolution1D(
            *(draw(6, 2, 2), None, 2, (2, 1)), dilation=3, groups=2, pad_mode="reflect"
        ),
        SIGNALS,
    ),
    "Affine": Case(lambda draw: Affine(draw(7, 5), draw(5)), (4, 7)),
    "Affine-of-images": Case(lambda draw: Affine(draw(120, 5), draw(5)), IMAGES),
    "Affine-without-b": Case(lambda draw: Affine(draw(7, 5), None), (4, 7)),
    "Flatten": Case(lambda draw: Flatten(), IMAGES),
    "Pooling": Case(lambda draw: Pooling(2, 2, 2), IMAGES),
    "Pooling-overlapping": Case(lambda draw: Pooling(3, 2, 1, 1), IMAGES),
    "Pooling-evaluated": Case(lambda draw: Pooling(3, 3, 2, "same"), IMAGES, (False,)),
    "Pooling1D": Case(lambda draw: Pooling1D(3, 2, 1), SIGNALS),
    "Pooling1D-evaluated": Case(lambda draw: Pooling1D(3, 2, "same"), SIGNALS, (False,)),
    "AveragePooling1D": Case(lambda draw: AveragePooling1D(3, 2, (0, 1)), SIGNALS),
    "AveragePooling": Case(lambda draw: AveragePooling(2, 2, 2), IMAGES),
    "AveragePooling-overlapping": Case(lambda draw: AveragePooling(3, 2, 1, 1), IMAGES),
    "GlobalAveragePooling": Case(lambda draw: GlobalAveragePooling(), IMAGES),
    "GlobalAveragePooling-signals": Case(lambda draw: GlobalAveragePooling(), SIGNALS),
    "ChannelShuffle": Case(lambda draw: ChannelShuffle(2), IMAGES),
    "IdentityShortcut": Case(lambda draw: IdentityShortcut(6, (2, 1)), IMAGES),
    "Concatenation": Case(lambda draw: Concatenation([], Sigmoid()), IMAGES),
    "Relu": Case(lambda draw: Relu(), (3, 4, 5)),
    "Sigmoid": Case(lambda draw: Sigmoid(), (3, 4, 5)),
    "LeakyRelu": Case(lambda draw: LeakyRelu(0.1), (3, 4, 5)),
    "Relu6": Case(lambda draw: Relu6(), (3, 4, 5)),
    "HardSigmoid": Case(lambda draw: HardSigmoid(), (3, 4, 5)),
    "HardSwish": Case(lambda draw: HardSwish(), (3, 4, 5)),
    "SiLU": Case(lambda draw: SiLU(), (3, 4, 5)),
    "Dropout": Case(lambda draw: Dropout(0.4, rng=np.random.default_rng(0)), (3, 4, 5)),
    "Dropout-inverted": Case(
        lambda draw: Dropout(0.4, inverted=True, rng=np.random.default_rng(0)), (3, 4, 5)
    ),
    "Dropout-evaluated": Case(lambda draw: Dropout(0.4), (3, 4, 5), (False,)),
    "BatchNormalization": Case(normalization(True, 4), (5, 4), (), empty=False),
    "BatchNormalization-channels": Case(normalization(True, 4), IMAGES, (), empty=False),
    "BatchNormalization-pixels": Case(normalization(True, 120), IMAGES, (True,), empty=False),
    "BatchNormalization-signals": Case(normalization(True, 4), SIGNALS, (), empty=False),
    "BatchNormalization-evaluated": Case(normalization(False, 4), IMAGES, (False,)),
    **{
        f"LocalResponseNormalization-{size}": Case(
            lambda draw, size=size: LocalResponseNormalization(size, 0.3, 0.75, 1.5),  # type: ignore[misc]
            IMAGES,
        )
        for size in (1, 2, 5, 11)
    },
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def held(layer: Any) -> list[str]:
    return [name for name in GRADIENTS if isinstance(getattr(layer, name, None), np.ndarray)]


def run(case: Case, layer: Any, x: Array, seed: int = 3) -> list[Array]:
    """Go forward and back; return output, gradient of the input, gradients of parameters."""
    out = case.forward(layer, x)
    dx = layer.backward(normal_values(out.shape, out.dtype, seed))
    return [out, dx, *(getattr(layer, GRADIENTS[name]) for name in held(layer))]


def assert_all_same(results: list[Array], expected: list[Array]) -> None:
    assert len(results) == len(expected)
    for result, same in zip(results, expected):
        assert_same(result, same)


# ------------------------------------------------------------------------------------- gradients


@each_case
def test_gradients(case: Case) -> None:
    """Gradients of the input and of the parameters equal central differences."""
    layer, x = case.layer(), case.input()
    grads = normal_values(case.forward(copy.deepcopy(layer), x).shape, "f8", 3)

    def result() -> Any:
        return (case.forward(copy.deepcopy(layer), x) * grads).sum()

    trained = copy.deepcopy(layer)
    case.forward(trained, x)
    assert_gradient(trained.backward(grads), result, x)
    for name in held(layer):
        assert_gradient(getattr(trained, GRADIENTS[name]), result, getattr(layer, name))


def test_gradient_of_the_loss() -> None:
    x, t = normal_values((4, 5), "f8"), np.array([0, 4, 2, 2])
    layer = SoftmaxWithLoss()
    layer.forward(x, t)
    grads = layer.backward()

    def cross_entropy() -> Any:
        """Leave the textbook's 1e-7 out, as its gradient does."""
        return (np.log(np.exp(x).sum(axis=1)) - x[np.arange(4), t]).mean()

    assert_gradient(grads, cross_entropy, x)
    np.testing.assert_allclose(layer.backward(3.0), 3 * grads, rtol=1e-15)


@pytest.mark.parametrize("name", ["Convolution", "Convolution-keywords", "Convolution1D", "Affine"])
def test_gradients_of_parameters_alone(name: str) -> None:
    case = CASES[name]
    layer, other, x = case.layer(), case.layer(), case.input()
    dout = normal_values(case.forward(layer, x).shape, "f8", 3)
    case.forward(other, x)
    layer.backward(dout)
    assert other.backward(dout, need_dx=False) is None
    assert_same(other.dW, layer.dW)
    assert_same(other.db, layer.db)


# -------------------------------------------------------------------------------------- textbook

W, B = normal_values((5, 4, 3, 3), "f8", 1), normal_values((5,), "f8", 2)
MATRIX = normal_values((120, 6), "f8", 1)
GAMMA, BETA = normal_values((120,), "f8", 3), normal_values((120,), "f8", 4)
PAIRS: dict[str, tuple[Any, Any]] = {
    "Convolution": (Convolution(W, B, 2, 1), textbook.Convolution(W, B, 2, 1)),
    "Convolution-defaults": (Convolution(W, B), textbook.Convolution(W, B)),
    "Pooling": (Pooling(2, 2, 2), textbook.Pooling(2, 2, 2)),
    "Pooling-by-name": (
        Pooling(pool_h=3, pool_w=2, stride=2, pad=0),
        textbook.Pooling(3, 2, 2),
    ),
    "Pooling-defaults": (Pooling(2, 3), textbook.Pooling(2, 3)),
    "Affine": (Affine(MATRIX, B[:1] * np.ones(6)), textbook.Affine(MATRIX, B[:1] * np.ones(6))),
    "Relu": (Relu(), textbook.Relu()),
    "Sigmoid": (Sigmoid(), textbook.Sigmoid()),
    "BatchNormalization": (
        BatchNormalization(GAMMA, BETA),
        textbook.BatchNormalization(GAMMA, BETA),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), PAIRS.values(), ids=PAIRS.keys())
def test_textbook(ours: Any, theirs: Any) -> None:
    """Outputs, gradients, and the attributes that the textbook's code reads are equal."""
    for count in (3, 6):
        x = normal_values((count, *IMAGES[1:]), "f8")
        out = theirs.forward(x)
        assert_close(ours.forward(x), out, "f8", 200)
        dout = normal_values(out.shape, "f8", 3)
        assert_close(ours.backward(dout), theirs.backward(dout), "f8", 200)
        for name in ("dW", "db", "dgamma", "dbeta", "running_mean", "running_var"):
            if hasattr(theirs, name):
                assert_close(getattr(ours, name), getattr(theirs, name), "f8", 200)
        if isinstance(ours, Relu):
            assert_same(ours.mask, theirs.mask)


OFFSETS: dict[str, Any] = {
    "int": 0,
    "float": 0.5,
    "array of one": np.array([0.25]),
    "matrix of one": np.array([[0.25]]),
    "array without axes": np.array(-1.5),
    "integers": np.arange(6),
    "row": np.arange(6.0)[None],
    "row of integers": np.arange(6)[None],
}


@pytest.mark.parametrize("b", OFFSETS.values(), ids=OFFSETS.keys())
@pytest.mark.parametrize("kind", ["Convolution", "Affine"])
def test_b_is_broadcast_as_in_the_textbook(kind: str, b: Any) -> None:
    """The book's code adds a number or a row to rows by NumPy's broadcasting."""
    weights = normal_values((6, 4, 3, 3), "f8", 1) if kind == "Convolution" else MATRIX
    ours, theirs = getattr(layers, kind)(weights, b), getattr(textbook, kind)(weights, b)
    x = normal_values(IMAGES, "f8")
    out = theirs.forward(x)
    assert_close(ours.forward(x), out, "f8", 200)
    dout = normal_values(out.shape, "f8", 3)
    assert_close(ours.backward(dout), theirs.backward(dout), "f8", 200)
    assert ours.db.shape == ours.b.shape == np.shape(b)
    every = (0, 2, 3) if kind == "Convolution" else (0,)
    summed = dout.sum() if np.size(b) == 1 else dout.sum(axis=every)
    assert_close(ours.db, np.reshape(summed, np.shape(b)), "f8", 200)


@pytest.mark.parametrize("b", OFFSETS.values(), ids=OFFSETS.keys())
@each_dtype
def test_numbers_in_b_keep_the_dtype(dtype: str, b: Any) -> None:
    """An integer keeps float32, and an optimiser can change it in place."""
    if isinstance(b, np.ndarray) and b.dtype.kind == "f":
        b = b.astype(dtype)
    for layer in (
        Convolution(normal_values((6, 4, 3, 3), dtype), b),
        Affine(normal_values((120, 6), dtype), b),
    ):
        out = layer.forward(normal_values(IMAGES, dtype))
        dx = layer.backward(out)
        for array in (out, dx, layer.dW, layer.db, layer.b):
            assert array is not None
            assert array.dtype == dtype
        assert layer.b is not None
        assert layer.db is not None
        layer.b -= layer.db


def test_gradient_of_one_number_in_b() -> None:
    """A single number reaches every output; its gradient equals central differences."""
    x = normal_values((2, 3, 4, 4), "f8")
    layer = Convolution(normal_values((5, 3, 3, 3), "f8", 1), np.array(0.3))
    grads = normal_values(layer.forward(x).shape, "f8", 3)
    layer.backward(grads)
    assert layer.b is not None
    assert layer.db is not None
    assert_gradient(layer.db, lambda: (layer.forward(x) * grads).sum(), layer.b)


def test_running_statistics_are_used_in_evaluation() -> None:
    ours, theirs = (
        BatchNormalization(GAMMA, BETA, 0.8),
        textbook.BatchNormalization(GAMMA, BETA, 0.8),
    )
    for seed in range(3):
        for layer in (ours, theirs):
            layer.forward(normal_values(IMAGES, "f8", seed))
    before = np.array(ours.running_mean)
    x = normal_values(IMAGES, "f8", 9)
    assert_close(ours.forward(x, train_flg=False), theirs.forward(x, train_flg=False), "f8")
    np.testing.assert_array_equal(ours.running_mean, before)


def test_statistics_of_channels() -> None:
    x = normal_values(IMAGES, "f8")
    layer = BatchNormalization(np.full(4, 2.0), np.full(4, 3.0), momentum=0.7)
    out = layer.forward(x)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    expected = 2 * (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-6) + 3
    assert_close(out, expected, "f8", 90)
    assert_close(layer.running_mean, 0.3 * mean, "f8", 90)
    assert_close(layer.running_var, 0.3 * var, "f8", 90)


@pytest.mark.parametrize("train_flg", [True, False])
def test_epsilon_of_the_variance(train_flg: bool) -> None:
    x, var = normal_values((5, 4), "f8"), np.array([0.0, 1.0, 2.0, 3.0])
    for eps in (0.0, 1e-5, 0.5):
        layer = BatchNormalization(np.ones(4), np.zeros(4), 0.9, np.zeros(4), var + 1, eps=eps)
        mean, divisor = (x.mean(axis=0), x.var(axis=0)) if train_flg else (0, var + 1)
        expected = (x - mean) / np.sqrt(divisor + eps)
        assert_close(layer.forward(x, train_flg), expected, "f8", 5)


@pytest.mark.parametrize("eps", [-1e-5, float("nan"), float("inf")])
def test_refused_epsilons(eps: float) -> None:
    message = f"^eps must be a number from 0 on, got {eps}$"
    refused(ValueError, message, BatchNormalization, np.ones(4), np.zeros(4), eps=eps)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11])
def test_local_response(size: int) -> None:
    x, numbers = normal_values((2, 7, 3, 4), "f8"), (0.3, 0.6, 1.5)
    expected = textbook.local_response(x, size, *numbers)
    assert_close(LocalResponseNormalization(size, *numbers).forward(x), expected, "f8", size)


def test_local_response_defaults() -> None:
    x = 30 * normal_values((2, 7, 3, 4), "f8")
    expected = textbook.local_response(x, 5, 1e-4, 0.75, 1.0)
    assert_close(LocalResponseNormalization().forward(x), expected, "f8", 5)


def test_means() -> None:
    x = normal_values(IMAGES, "f8")
    expected = reference.avg_pool2d(x, (3, 2), 2, 1)
    assert_close(AveragePooling(3, 2, 2, 1).forward(x), expected, "f8", 6)
    assert_close(AveragePooling(2, 2).forward(x), reference.avg_pool2d(x, 2, 1), "f8", 4)
    assert_close(GlobalAveragePooling().forward(x), x.mean(axis=(2, 3)), "f8", 30)


@each_dtype
def test_dropout_draws_what_the_textbook_draws(dtype: str) -> None:
    x = normal_values((20, 3, 4), dtype)
    np.random.seed(3)  # noqa: NPY002
    expected = x * (np.random.rand(*x.shape) > 0.5)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    layer = Dropout(0.5)
    assert_same(layer.forward(x, True), expected)
    dout = normal_values(x.shape, dtype, 1)
    assert_same(layer.backward(dout), dout * layer.mask)
    np.random.seed(3)  # noqa: NPY002
    assert_same(Dropout().forward(x), expected)
    scaled = layer.forward(x, train_flg=False)
    assert_same(scaled, x * np.array(0.5, dtype))
    assert_same(layer.backward(dout), dout * np.array(0.5, dtype))


@each_dtype
@pytest.mark.parametrize("ratio", [0, 0.25, 1])
def test_inverted_dropout(dtype: str, ratio: float) -> None:
    """As in PyTorch, the remaining values are scaled in training, and nothing in inference."""
    x, dout = normal_values((20, 3, 4), dtype), normal_values((20, 3, 4), dtype, 1)
    layer = Dropout(ratio, inverted=True, rng=np.random.default_rng(3))
    kept = np.random.default_rng(3).random(x.shape) > ratio
    scale = 1 / (1 - ratio) if ratio < 1 else 0
    assert_close(layer.forward(x), (x.astype("f8") * kept * scale).astype(dtype), dtype)
    assert_close(layer.backward(dout), (dout.astype("f8") * kept * scale).astype(dtype), dtype)
    assert_same(layer.forward(x, train_flg=False), x)
    assert_same(layer.backward(dout), dout)


@pytest.mark.parametrize("ratio", [0, 0.0, 1, 1.0])
def test_dropping_nothing_or_everything(ratio: float) -> None:
    x = normal_values((50,))
    expected = x * np.float32(1 - ratio)
    for train_flg in (True, False):
        np.testing.assert_array_equal(Dropout(ratio).forward(x, train_flg), expected)


def test_dropout_with_a_generator_leaves_the_global_one_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.rand(2)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    x = np.ones(10)
    results = [Dropout(rng=np.random.default_rng(4)).forward(x) for _ in range(2)]
    assert_same(results[0], results[1])
    np.testing.assert_array_equal(np.random.rand(2), expected)  # noqa: NPY002


def test_sigmoid_of_large_numbers() -> None:
    """No dtype causes warnings of overflow."""
    for dtype in DTYPES:
        x = np.array([-np.inf, -1e4, 0, 1e4, np.inf, np.nan], dtype)
        expected = np.array([0, 0, 0.5, 1, 1, np.nan], dtype)
        np.testing.assert_array_equal(Sigmoid().forward(x), expected)


def test_relu_mask() -> None:
    layer = Relu()
    assert layer.mask is None
    x = np.array([[-1.0, 0.0, -0.0, 2.0, np.nan, np.inf]])
    dout = np.arange(1.0, 7)[None]
    layer.forward(x)
    assert_same(layer.mask, x <= 0)
    assert_same(layer.backward(dout), np.where(x <= 0, 0, dout))
    np.testing.assert_array_equal(dout, np.arange(1.0, 7)[None])


@each_dtype
def test_relu_keeps_only_its_mask(dtype: str) -> None:
    """Changes of its input and output in place do not change the gradient."""
    layer, x = Relu(), normal_values((3, 4, 5), dtype)
    dout, mask = normal_values(x.shape, dtype, 3), x <= 0
    expected = np.where(mask, dout.dtype.type(0), dout)
    for change in (0, 1, -1, np.nan):
        given = x.copy()
        out = layer.forward(given)
        assert list(vars(layer)) == ["mask"]
        given[...] = out[...] = change
        assert_same(layer.mask, mask)
        for _ in range(2):
            assert_same(layer.backward(dout), expected)
    layer.forward(x)
    kept = layer.mask
    layer.forward(-x)
    assert_same(kept, mask)
    assert_same(layer.mask, -x <= 0)


@pytest.mark.parametrize("make", [Relu, Sigmoid, Dropout, lambda: Dropout(0.5)], ids=str)
@each_dtype
def test_single_numbers(make: Callable[[], Any], dtype: str) -> None:
    """Layers for arrays of any shape accept arrays without axes."""
    layer = make()
    out = layer.forward(np.array(2, dtype))
    assert np.shape(out) == ()
    assert np.asarray(out).dtype == dtype
    assert np.asarray(layer.backward(np.array(1, dtype))).dtype == dtype


# --------------------------------------------------------------------------------------- PyTorch


def test_pytorch(torch: Any) -> None:
    f = torch.nn.functional
    x, w, b = normal_values((3, 4, 8, 9)), normal_values((6, 2, 3, 3)), normal_values((6,))
    matrix, gamma, beta = normal_values((288, 5)), normal_values((4,)), normal_values((4,), seed=1)
    row = normal_values((5,))
    known: list[tuple[Any, list[Array], Callable[..., Any]]] = [
        (
            Convolution(w, b, 2, 1, dilation=(1, 2), groups=2),
            [w, b],
            lambda x, w, b: f.conv2d(x, w, b, 2, 1, (1, 2), 2),
        ),
        (Affine(matrix, row), [matrix, row], lambda x, w, b: x.flatten(1) @ w + b),
        (Pooling(3, 3, 2, 1), [], lambda x: f.max_pool2d(x, 3, 2, 1)),
        (AveragePooling(3, 3, 2, 1), [], lambda x: f.avg_pool2d(x, 3, 2, 1)),
        (GlobalAveragePooling(), [], lambda x: f.adaptive_avg_pool2d(x, 1).flatten(1)),
        (Flatten(), [], lambda x: x.flatten(1)),
        (Relu(), [], f.relu),
        (Sigmoid(), [], torch.sigmoid),
        (
            BatchNormalization(gamma, beta),
            [gamma, beta],
            lambda x, g, b: f.batch_norm(x, None, None, g, b, True, 0.1, 1e-6),
        ),
        *(
            (
                LocalResponseNormalization(size, 0.3, 0.75, 2.0),
                [],
                lambda x, size=size: f.local_response_norm(x, size, 0.3, 0.75, 2.0),
            )
            for size in (1, 3, 4, 5)
        ),
    ]
    for layer, parameters, function in known:
        tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in (x, *parameters)]
        expected = function(*tensors)
        out = layer.forward(x)
        assert_close(out, expected.detach().numpy(), "f4", 300)
        dout = normal_values(out.shape, seed=3)
        expected.backward(torch.from_numpy(dout))
        grads = [layer.backward(dout), *(getattr(layer, GRADIENTS[name]) for name in held(layer))]
        for grad, tensor in zip(grads, tensors, strict=True):
            assert_close(grad, tensor.grad.numpy(), "f4", 1000)


def test_pytorch_running_statistics(torch: Any) -> None:
    """PyTorch's momentum is one minus ours, and its running variance unbiased."""
    x = normal_values((3, 4, 8, 9), "f8")
    mean, var = torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    torch.nn.functional.batch_norm(torch.from_numpy(x), mean, var, training=True, momentum=0.1)
    layer = BatchNormalization(np.ones(4), np.zeros(4))
    layer.forward(x)
    assert_close(layer.running_mean, mean.numpy(), "f8", 200)
    count = x[:, 0].size
    assert_close(layer.running_var, var.numpy() * (count - 1) / count, "f8", 200)


def test_pytorch_loss(torch: Any) -> None:
    x, t = normal_values((6, 5), "f8"), np.array([0, 4, 2, 2, 1, 3])
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    loss = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(t))
    loss.backward()
    layer = SoftmaxWithLoss()
    assert abs(layer.forward(x, t) - loss.item()) < 2e-6
    assert_close(layer.backward(), tensor.grad.numpy(), "f8", 5)


# ---------------------------------------------------------------------------------------- dtypes


@each_case
@each_dtype
def test_dtypes_are_kept(case: Case, dtype: str) -> None:
    """Outputs, gradients and parameters keep their dtype; values are rounded float64 values."""
    layer, x = case.layer(dtype), case.input(dtype)
    names = held(layer)
    results = run(case, layer, x)
    assert [result.dtype for result in results] == [np.dtype(dtype)] * len(results)
    assert [getattr(layer, name).dtype for name in names] == [np.dtype(dtype)] * len(names)
    wide = case.layer("f8")
    for name in (*names, "running_mean", "running_var"):
        if hasattr(layer, name):
            setattr(wide, name, getattr(case.layer(dtype), name).astype("f8"))
    out = case.forward(wide, x.astype("f8"))
    dx = wide.backward(normal_values(results[0].shape, dtype, 3).astype("f8"))
    expected = [out, dx, *(getattr(wide, GRADIENTS[name]) for name in names)]
    for result, same in zip(results, expected):
        assert_close(result, same.astype(dtype), dtype, 20)


@pytest.mark.parametrize("number", [np.float64, np.float32, np.float16], ids=str)
def test_numbers_of_layers_do_not_change_dtypes(number: Any) -> None:
    """Neither Python numbers nor NumPy numbers change the dtype of a result."""
    x = normal_values(IMAGES)
    made: list[Any] = [
        Dropout(number(0.5)),
        BatchNormalization(np.ones(4, "f4"), np.zeros(4, "f4"), number(0.9)),
        LocalResponseNormalization(np.int64(5), number(1e-2), number(0.75), number(1)),
    ]
    for layer in made:
        for _ in range(2):
            for arguments in (
                [()]
                if isinstance(layer, LocalResponseNormalization)
                else [
                    (True,),
                    (False,),
                ]
            ):
                assert layer.forward(x, *arguments).dtype == np.float32
                assert layer.backward(x).dtype == np.float32
    for name in ("gamma", "beta", "dgamma", "dbeta", "running_mean", "running_var"):
        assert getattr(made[1], name).dtype == np.float32


def test_loss_dtypes() -> None:
    for dtype in DTYPES:
        layer = SoftmaxWithLoss()
        loss = layer.forward(normal_values((3, 4), dtype), [0, 1, 2])
        assert loss.dtype == ("f8" if dtype == "f8" else "f4")
        assert layer.backward().dtype == dtype
        assert layer.backward(np.float64(2)).dtype == dtype


def test_long_float16_sums() -> None:
    """Long sums of float16 are computed in float32."""
    ones = np.ones((4096, 2), "f2")
    affine = Affine(np.ones((2, 2), "f2"), np.zeros(2, "f2"))
    affine.forward(ones)
    affine.backward(ones)
    assert_same(affine.dW, np.full((2, 2), 4096, "f2"))
    assert_same(affine.db, np.full(2, 4096, "f2"))
    norm = BatchNormalization(np.ones(2, "f2"), np.zeros(2, "f2"))
    norm.forward(ones)
    norm.backward(ones)
    assert_same(norm.dbeta, np.full(2, 4096, "f2"))
    images = np.ones((2, 2, 64, 64), "f2")
    assert_same(GlobalAveragePooling().forward(images), np.ones((2, 2), "f2"))
    convolution = Convolution(np.ones((1, 2, 1, 1), "f2"), np.zeros(1, "f2"))
    convolution.forward(images)
    convolution.backward(np.ones((2, 1, 64, 64), "f2"))
    assert_same(convolution.db, np.full(1, 8192, "f2"))


@each_case
def test_integers(case: Case) -> None:
    """Layers compute with integers in float64, as the textbook does, or only move them."""
    layer = case.layer("f8")
    x = np.random.default_rng(0).integers(-3, 4, case.shape)
    kept = isinstance(layer, (Flatten, Pooling, Pooling1D))
    results = [case.forward(case.layer("f8"), given) for given in (x, x.astype("f8"), x.tolist())]
    assert_same(results[0], results[1].astype(x.dtype) if kept else results[1])
    assert_same(results[2], results[0])


def test_integer_parameters_and_gradients() -> None:
    """Gradients of integer parameters are not rounded to integers."""
    x, dout = normal_values((4, 3), "f8"), normal_values((4, 3), "f8", 1)
    of_lists: Any = BatchNormalization([1, 1, 1], [0, 0, 0])
    of_floats: Any = BatchNormalization(np.ones(3), np.zeros(3))
    for norm in (of_lists, of_floats):
        norm.forward(x)
        norm.backward(dout)
    for name in ("dgamma", "dbeta"):
        assert_same(getattr(of_lists, name), getattr(of_floats, name))
    affine = Affine(np.ones((3, 2)), np.zeros(2))
    affine.forward(x)
    for array in (affine.backward(np.ones((4, 2), int)), affine.dW, affine.db):
        assert array is not None
        assert array.dtype == np.float64


@each_case
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(case: Case, layout: str) -> None:
    """Inputs, gradients and parameters have any layout; results have native byte order."""
    known = run(case, case.layer("f4"), case.input("f4"))
    layer, laid = case.layer("f4"), LAYOUTS[layout]
    for name in held(layer):
        setattr(layer, name, laid(getattr(layer, name)))
    x = laid(case.input("f4"))
    out = case.forward(layer, x)
    dx = layer.backward(laid(normal_values(out.shape, "f4", 3)))
    results = [out, dx, *(getattr(layer, GRADIENTS[name]) for name in held(layer))]
    for result, expected in zip(results, known):
        assert_close(result.astype("f4"), expected, "f4", 4)
        assert result.dtype.isnative or isinstance(layer, Flatten)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_scores(layout: str) -> None:
    x, t = normal_values((4, 5)), np.array([0, 4, 2, 2])
    laid = LAYOUTS[layout]
    ours, known = SoftmaxWithLoss(), SoftmaxWithLoss()
    assert ours.forward(laid(x), laid(t)) == known.forward(x, t)
    assert_same(ours.backward(), known.backward())


# ----------------------------------------------------------------------------------------- state


@each_case
def test_backward_before_forward(case: Case) -> None:
    layer = case.layer()
    message = f"^{type(layer).__name__}: backward needs a forward before it$"
    with pytest.raises(RuntimeError, match=message):
        layer.backward(np.ones((3, 4)))


def test_backward_of_the_loss_before_forward() -> None:
    with pytest.raises(
        RuntimeError, match=r"^SoftmaxWithLoss: backward needs a forward before it$"
    ):
        SoftmaxWithLoss().backward()


def test_every_layer_is_tested() -> None:
    tested = {type(case.layer()).__name__ for case in CASES.values()}
    containers = {"Chain", "Residual"}  # Their errors are those of the layers that they hold.
    assert (
        tested
        == set(layers.__all__) - {"Layer", "SoftmaxWithLoss", "MeanSquaredError"} - containers
    )


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle-{protocol}": lambda layer, protocol=protocol: pickle.loads(  # type: ignore[misc]
            pickle.dumps(layer, protocol)
        )
        for protocol in (0, 2, pickle.HIGHEST_PROTOCOL)
    },
}


@each_case
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_copies(case: Case, duplicate: Callable[[Any], Any]) -> None:
    """A copy made before, between or after the two passes starts with forward."""
    x = case.input("f4")
    known = run(case, case.layer("f4"), x)
    assert_all_same(run(case, duplicate(case.layer("f4")), x), known)
    layer = duplicate(case.layer("f4"))
    message = f"^{type(layer).__name__}: backward needs a forward before it$"
    for passes in range(3):
        if passes == 1:
            dout = normal_values(case.forward(layer, x).shape, "f4", 3)
        elif passes == 2:
            layer.backward(dout)
        other = duplicate(layer)
        with pytest.raises(RuntimeError, match=message):
            other.backward(known[0])
        for name in held(layer):
            assert getattr(other, GRADIENTS[name]) is None
            assert_same(getattr(other, name), getattr(layer, name))
        assert_all_same(run(case, duplicate(other), x), run(case, duplicate(layer), x))


@each_case
def test_copies_lack_the_last_batch(case: Case) -> None:
    """A copy contains no array of the last batch, whatever its name."""
    layer = case.layer("f4")
    before = len(pickle.dumps(layer))
    run(case, layer, case.input("f4", 2000 // case.input().size + 50))
    for duplicate in COPIES.values():
        assert len(pickle.dumps(duplicate(layer))) <= before + 100
    assert len(pickle.dumps(layer)) <= before + 100
    fresh = case.layer("f4")
    assert vars(copy.deepcopy(layer)).keys() == vars(fresh).keys()


def test_copies_of_the_loss() -> None:
    layer = SoftmaxWithLoss()
    before = len(pickle.dumps(layer))
    layer.forward(normal_values((300, 4)), np.arange(300) % 4)
    for duplicate in COPIES.values():
        other = duplicate(layer)
        assert other.y is other.t is other.loss is None
        with pytest.raises(RuntimeError, match="backward needs a forward"):
            other.backward()
    assert len(pickle.dumps(layer)) == before


REPRESENTATIONS: list[tuple[Any, str]] = [
    (Pooling(2, 2), "Pooling(2, 2)"),
    (Pooling(2, 3, 2, "same"), "Pooling(2, 3, stride=2, pad='same')"),
    (
        Pooling(np.int64(2), 2, (1, 2), ((0, 1), (0, 1))),
        "Pooling(2, 2, stride=(1, 2), pad=((0, 1), (0, 1)))",
    ),
    (AveragePooling(3, 3, np.array([2, 1])), "AveragePooling(3, 3, stride=[2, 1])"),
    (Pooling1D(3, pad=(1, 0)), "Pooling1D(3, pad=(1, 0))"),
    (AveragePooling1D(2, 2), "AveragePooling1D(2, stride=2)"),
    (GlobalAveragePooling(), "GlobalAveragePooling()"),
    (Relu(), "Relu()"),
    (Sigmoid(), "Sigmoid()"),
    (LeakyRelu(), "LeakyRelu()"),
    (LeakyRelu(0.2), "LeakyRelu(0.2)"),
    (Relu6(), "Relu6()"),
    (HardSigmoid(), "HardSigmoid()"),
    (HardSwish(), "HardSwish()"),
    (SiLU(), "SiLU()"),
    (Flatten(), "Flatten()"),
    (SoftmaxWithLoss(), "SoftmaxWithLoss()"),
    (MeanSquaredError(), "MeanSquaredError()"),
    (Chain(), "Chain()"),
    (Residual(), "Residual()"),
    (Concatenation([]), "Concatenation(\n  []\n)"),
    (ChannelShuffle(2), "ChannelShuffle(2)"),
    (IdentityShortcut(8, 2), "IdentityShortcut(8, stride=2)"),
    (Dropout(), "Dropout()"),
    (Dropout(0.25), "Dropout(0.25)"),
    (Dropout(inverted=True, rng=np.random.default_rng(0)), "Dropout(inverted=True)"),
    (LocalResponseNormalization(), "LocalResponseNormalization()"),
    (LocalResponseNormalization(7, beta=0.5), "LocalResponseNormalization(7, beta=0.5)"),
    (
        Convolution(np.zeros((30, 1, 5, 5), "f4"), np.zeros(30, "f4"), pad=2),
        "Convolution(W=<(30, 1, 5, 5) float32>, b=<(30,) float32>, pad=2)",
    ),
    (
        Convolution(np.zeros((4, 2, 3, 3)), None, dilation=2, groups=2, pad_mode="wrap"),
        "Convolution(W=<(4, 2, 3, 3) float64>, b=None, dilation=2, groups=2, pad_mode='wrap')",
    ),
    (
        Convolution1D(np.zeros((4, 2, 3)), np.zeros(4), 2, "same"),
        "Convolution1D(W=<(4, 2, 3) float64>, b=<(4,) float64>, stride=2, pad='same')",
    ),
    (Affine([[1.0], [2.0]], 0), "Affine(W=<(2, 1) float64>, b=<() float64>)"),
    (
        BatchNormalization(np.ones(3, "f4"), np.ones(3, "f4"), 0.8, eps=1e-5),
        "BatchNormalization(gamma=<(3,) float32>, beta=<(3,) float32>, momentum=0.8, eps=1e-05)",
    ),
]


@pytest.mark.parametrize(("layer", "text"), REPRESENTATIONS, ids=[r[1] for r in REPRESENTATIONS])
def test_representations(layer: Any, text: str) -> None:
    """`repr` shows the call that makes a layer, with arrays by their shape."""
    assert repr(layer) == text
    assert {type(shown).__name__ for shown, _ in REPRESENTATIONS} == set(layers.__all__) - {"Layer"}
    if "<" not in text:
        assert repr(eval(text, vars(layers))) == text


def test_representations_of_changed_layers() -> None:
    """`repr` shows the current state of a layer."""
    layer: Any = Affine(np.ones((2, 3), "f4"), np.ones(3, "f4"))
    layer.forward(np.ones((5, 2), "f4"))
    layer.W, layer.b = [[1.0], [2.0]], None
    assert repr(layer) == "Affine(W=<(2, 1) float64>, b=None)"
    norm = BatchNormalization(np.ones(2), np.ones(2))
    norm.forward(np.ones((4, 2)))
    assert repr(norm).endswith("running_mean=<(2,) float64>, running_var=<(2,) float64>)")


class Doubled(Convolution):
    """A layer of one's own, with arguments of its own."""

    def __init__(self, filters: int, *more: Any, size: int = 3, **others: Any) -> None:
        super().__init__(np.ones((2 * filters, 1, size, size)), None)
        self.size = size


def test_representations_of_layers_of_ones_own() -> None:
    assert repr(Doubled(3, 4, size=5, other=6)) == "Doubled(size=5)"


@each_case
def test_other_batch_sizes(case: Case) -> None:
    """The result does not depend on an earlier batch."""
    layer = case.layer("f4")
    if isinstance(layer, Dropout):
        layer.rng = None
    for count in (3, 5, 2, 2, 3):
        x = case.input("f4", count, seed=count)
        fresh = case.layer("f4")
        if isinstance(layer, Dropout):
            fresh.rng = None
            np.random.seed(count)  # noqa: NPY002
        expected = run(case, fresh, x)
        np.random.seed(count)  # noqa: NPY002
        assert_all_same(run(case, layer, x), expected)


@each_case
@each_dtype
def test_empty_batches(case: Case, dtype: str) -> None:
    layer = case.layer(dtype)
    x = case.input(dtype, 0)
    if not case.empty:
        with pytest.raises(ValueError, match=r"^BatchNormalization: an empty batch has no mean"):
            case.forward(layer, x)
        return
    out, dx, *grads = run(case, layer, x)
    assert out.shape == (0, *case.forward(layer, case.input(dtype)).shape[1:])
    assert_same(dx, x)
    for name, grad in zip(held(layer), grads):
        assert_same(grad, np.zeros_like(getattr(layer, name)))


@each_case
def test_gradients_and_inputs_are_not_changed(case: Case) -> None:
    layer, x = case.layer("f4"), case.input("f4")
    before = x.copy()
    x.flags.writeable = False
    dout = normal_values(case.forward(layer, x).shape, "f4", 3)
    kept = dout.copy()
    dout.flags.writeable = False
    first = layer.backward(dout)
    first_grads = [getattr(layer, GRADIENTS[name]).copy() for name in held(layer)]
    assert_same(layer.backward(dout), first)  # and backward may be called again
    for name, grad in zip(held(layer), first_grads):
        assert_same(getattr(layer, GRADIENTS[name]), grad)
    assert_same(x, before)
    assert_same(dout, kept)


@pytest.mark.parametrize(
    "name", ["Convolution", "Affine", "Affine-of-images", "BatchNormalization-channels"]
)
@pytest.mark.parametrize("in_place", [True, False])
def test_parameters_may_change(name: str, in_place: bool) -> None:
    case = CASES[name]
    layer, x = case.layer("f8"), case.input("f8")
    run(case, layer, x)
    changed = {name: getattr(layer, name) * 0.5 + 1 for name in held(layer)}
    fresh = case.layer("f8")
    for attribute, array in changed.items():
        setattr(fresh, attribute, array.copy())
        if in_place:
            getattr(layer, attribute)[...] = array
        else:
            setattr(layer, attribute, array)
    assert_all_same(run(case, layer, x), run(case, fresh, x))


@pytest.mark.parametrize("name", ["Convolution", "Affine"])
def test_parameters_may_become_lists(name: str) -> None:
    case = CASES[name]
    layer, other, x = case.layer("f8"), case.layer("f8"), case.input("f8")
    other.W, other.b = layer.W.tolist(), layer.b.tolist()
    out = layer.forward(x)
    assert_same(other.forward(x), out)
    assert_same(other.backward(out), layer.backward(out))
    assert_same(other.dW, layer.dW)
    assert_same(other.db, layer.db)


@pytest.mark.parametrize("name", ["Convolution", "Affine"])
def test_without_b(name: str) -> None:
    case = CASES[name]
    layer, zero, x = case.layer(), case.layer(), case.input()
    layer.b = None
    zero.b = np.zeros_like(zero.b)
    out, dx, dW = run(case, layer, x)
    assert layer.db is None
    assert_all_same([out, dx, dW], run(case, zero, x)[:3])


def test_parameters_are_not_copied() -> None:
    W, b = normal_values((3, 2)), normal_values((2,))
    layer = Affine(W, b)
    assert layer.W is W
    assert layer.b is b


def stored(layer: Any) -> int:
    """Count the bytes of the arrays that a layer holds."""
    return sum(value.nbytes for value in vars(layer).values() if isinstance(value, np.ndarray))


def test_no_columns_are_stored() -> None:
    x = normal_values((2, 8, 20, 20))
    layer = Convolution(normal_values((4, 8, 3, 3)), np.zeros(4, "f4"), 1, 1)
    parameters = stored(layer)
    out = layer.forward(x)
    assert stored(layer) <= parameters + x.nbytes
    layer.backward(out)
    assert stored(layer) <= 2 * parameters + x.nbytes
    pooling: Any = Pooling(3, 3, 1, 1)
    out = pooling.forward(x)
    assert stored(pooling) <= x.nbytes + 8 * out.size
    pooling.forward(x, train_flg=False)
    assert stored(pooling) <= x.nbytes
    rectifier = Relu()
    rectifier.forward(x)
    assert stored(rectifier) == x.size


@each_dtype
def test_pooling_in_evaluation(dtype: str) -> None:
    """After inference, backward finds the maxima itself, with the same ties and NaN."""
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 9, 9)).astype(dtype)
    x[0, 0, ::4, ::3] = np.nan
    for arguments in ((2, 2, 2), (3, 3, 1, 1), (3, 2, 2, "same")):
        trained, evaluated = Pooling(*arguments), Pooling(*arguments)
        out = trained.forward(x, train_flg=True)
        assert_same(evaluated.forward(x, train_flg=False), out)
        dout = normal_values(out.shape, dtype)
        expected = trained.backward(dout)
        for _ in range(2):
            assert_same(evaluated.backward(dout), expected)
        other = x[:1] * 2
        trained.forward(other, train_flg=False)
        fresh = Pooling(*arguments)
        fresh.forward(other)
        assert_same(trained.backward(dout[:1]), fresh.backward(dout[:1]))


# ------------------------------------------------------------------------------------------ loss

LABELS = np.array([0, 4, 2, 2])
ONE_HOT = np.eye(5)[LABELS]
FORMS: list[Any] = [
    *(LABELS, LABELS[:, None], LABELS.tolist(), LABELS.astype("u1"), LABELS.astype(">i2")),
    *(ONE_HOT, ONE_HOT.astype(int), ONE_HOT.astype("u1"), ONE_HOT.astype(bool)),
    *(ONE_HOT.astype("f4"), ONE_HOT.astype("f2"), ONE_HOT.tolist()),
]


@pytest.mark.parametrize("t", FORMS, ids=lambda t: str(getattr(t, "dtype", "list")))
def test_forms_of_labels(t: Any) -> None:
    x = normal_values((4, 5), "f8")
    layer, known = SoftmaxWithLoss(), textbook.SoftmaxWithLoss()
    assert layer.forward(x, t) == known.forward(x, LABELS)
    assert layer.loss == known.forward(x, LABELS)
    assert_same(layer.y, known.y)
    assert_close(layer.backward(), known.backward(), "f8")


@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1000])
def test_loss_is_the_textbooks(scale: float) -> None:
    """The loss is equal to the last bit, even where a probability is zero."""
    x = scale * normal_values((50, 10), "f8")
    t = np.random.default_rng(0).integers(0, 10, 50)
    layer = SoftmaxWithLoss()
    loss = layer.forward(x, t)
    assert loss == textbook.SoftmaxWithLoss().forward(x, t)
    assert layer.y is not None
    assert loss == -np.mean(np.log(layer.y[np.arange(50), t] + 1e-7))


def test_one_class() -> None:
    """With one class, labels of shape (N,) and (N, 1) and one-hot rows all mean class 0."""
    for t in (np.zeros(3, int), np.zeros((3, 1), int), np.ones((3, 1))):
        assert abs(SoftmaxWithLoss().forward(np.ones((3, 1)), t)) < 1e-6


# ---------------------------------------------------------------------------------------- errors


BAD_LABELS: list[tuple[Any, type[Exception], str]] = [
    ([0, 1, 5], ValueError, "labels in t must be from 0 to 4, got 0 to 5"),
    ([0, -1, 4], ValueError, "labels in t must be from 0 to 4, got -1 to 4"),
    ([[0], [1], [7]], ValueError, "labels in t must be from 0 to 4, got 0 to 7"),
    (np.array([0, 1, 2**63], "u8"), ValueError, f"from 0 to 4, got 0 to {2**63}"),
    ([0.0, 1.0, 2.0], TypeError, "labels in t must be integers or one-hot, got dtype float64"),
    ([[0.0], [1.0], [2.0]], TypeError, "integers or one-hot, got dtype float64"),
    ([True, False, True], TypeError, "integers or one-hot, got dtype bool"),
    (np.eye(5)[:3] * 2, ValueError, "one-hot labels, but not one 1 in every row"),
    (np.zeros((3, 5)), ValueError, "one-hot labels, but not one 1 in every row"),
    (np.ones((3, 5), int), ValueError, "one-hot labels, but not one 1 in every row"),
    (np.eye(5)[:3] * np.nan, ValueError, "one-hot labels, but not one 1 in every row"),
    (np.eye(5)[:3] - np.eye(5)[2:], ValueError, "one-hot labels, but not one 1 in every row"),
    (np.full((3, 5), 0.2), ValueError, "one-hot labels, but not one 1 in every row"),
    (np.array([[1] * 3 + [0] * 2, [0] * 5, [0] * 5]), ValueError, "one 1 in every row"),
    ([0, 1], ValueError, re.escape("t must have shape (3,), (3, 1) or (3, 5) for 3 images")),
    ([[0, 1, 2]], ValueError, re.escape("and 5 classes, got (1, 3)")),
    (np.eye(4)[:3], ValueError, re.escape("and 5 classes, got (3, 4)")),
    (0, ValueError, re.escape("and 5 classes, got ()")),
    (["a", "b", "c"], TypeError, "t must be of .*; got dtype <U1"),
    ([0j, 1, 2], TypeError, "t must be of .*; got dtype complex128"),
    ([None, 1, 2], TypeError, "t must be of .*; got dtype object"),
]


@pytest.mark.parametrize(("t", "error", "message"), BAD_LABELS, ids=lambda value: None)
def test_refused_labels(t: Any, error: type[Exception], message: str) -> None:
    refused(error, message, SoftmaxWithLoss().forward, normal_values((3, 5)), t)


@pytest.mark.parametrize("shape", [(), (5,), (3, 5, 1), (0, 5), (3, 0)], ids=str)
def test_refused_scores(shape: Shape) -> None:
    message = re.escape(f"x must have shape (N, classes) and numbers, got {shape}")
    refused(ValueError, f"^{message}$", SoftmaxWithLoss().forward, np.ones(shape), np.zeros(0, int))


NOT_NUMBERS: list[Any] = ["g", "F", "D", "M8[s]", "S3", "U3", object]


@each_case
@pytest.mark.parametrize("dtype", NOT_NUMBERS)
def test_refused_dtypes(case: Case, dtype: Any) -> None:
    layer = case.layer()
    if isinstance(layer, Flatten):
        return  # it moves anything
    with pytest.raises(TypeError, match=re.escape(str(np.dtype(dtype)))):
        case.forward(layer, np.zeros(case.shape, dtype))


@each_case
def test_refused_inputs_that_are_no_arrays(case: Case) -> None:
    """The error names the type that came, not what NumPy would make of it."""
    layer = case.layer()
    if isinstance(layer, Flatten):
        return  # it moves anything
    name = type(layer).__name__
    for wrong, kind in ((None, "NoneType"), ("abc", "str"), ({}, "dict")):
        with pytest.raises(TypeError, match=rf"^{name}: x must be of .*; got {kind}$"):
            case.forward(layer, wrong)
    with pytest.raises(ValueError, match=rf"^{name}: x cannot be made an array: "):
        case.forward(layer, [[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("make", [Convolution, Affine])
def test_refused_parameters_that_are_no_arrays(make: Callable[[Any, Any], Any]) -> None:
    """They are refused when the layer is made, under the names that it gives them."""
    for wrong, kind in (("abc", "str"), ({}, "dict"), (1j, "complex"), ([None], "dtype object")):
        refused(TypeError, f"^W must be of .*; got {kind}$", make, wrong, None)
        refused(TypeError, f"^b must be of .*; got {kind}$", make, np.ones((2, 3)), wrong)
    refused(TypeError, "^W must be of .*; got NoneType$", make, None, None)


FOUR = "x must have 4 dimensions, got shape (3, 4)"
REFUSED_INPUTS: list[tuple[Any, Shape, str]] = [
    (Convolution(np.ones((2, 3, 3, 3)), None), (1, 4, 5, 5), "input has 4 channels"),
    (Convolution(np.ones((2, 3, 3, 3)), None), (1, 3, 2, 5), "does not fit the padded input"),
    *(
        (
            Convolution(np.ones((2, 3, 3, 3)), np.ones(shape)),
            (1, 3, 5, 5),
            re.escape(
                "b must be a number or have shape (2,) or (1, 2), one for each output of W of "
                f"shape (2, 3, 3, 3), got {shape}"
            ),
        )
        for shape in [(3,), (2, 1), (1, 1, 2), (0,), (2, 2), (1, 1, 1)]
    ),
    (Convolution(np.ones((2, 3)), None), (1, 3, 5, 5), "weight"),
    (Convolution(np.ones((2, 3, 3, 3)), None, 0), (1, 3, 5, 5), "stride must be a positive int"),
    (Convolution(np.ones((2, 3, 3, 3)), None, 1, -1), (1, 3, 5, 5), "padding must be"),
    (
        Affine(np.ones((4, 2)), None),
        (3, 5),
        re.escape("W must have shape (5, M) for x of shape (3, 5), got (4, 2)"),
    ),
    (
        Affine(np.ones((4, 2)), None),
        (3, 2, 3, 4),
        re.escape("W must have shape (24, M) for x of shape (3, 2, 3, 4), got (4, 2)"),
    ),
    (
        Affine(np.ones((4, 2)), np.ones((3, 2))),
        (3, 4),
        re.escape(
            "b must be a number or have shape (2,) or (1, 2), one for each output of W of shape "
            "(4, 2), got (3, 2)"
        ),
    ),
    (Affine(np.ones((4, 2)), None), (), "x must be a batch, got a number"),
    (
        Affine(np.ones(4), None),
        (3, 4),
        re.escape("W must have shape (4, M) for x of shape (3, 4), got (4,)"),
    ),
    (Flatten(), (), "x must be a batch, got a number"),
    (Pooling(3, 3), (1, 1, 2, 2), "does not fit the padded input"),
    (Pooling(2, 2, 0), (1, 1, 4, 4), "stride must be a positive int"),
    (Pooling(2, 2), (4, 4), "dimensions"),
    (AveragePooling(3, 3), (1, 1, 2, 2), "does not fit the padded input"),
    (GlobalAveragePooling(), (3, 4), re.escape(FOUR)),
    (GlobalAveragePooling(), (2, 3, 0, 4), "empty"),
    (LocalResponseNormalization(), (3, 4), re.escape(FOUR)),
    (
        BatchNormalization(np.ones(4), np.zeros(4)),
        (3, 5),
        re.escape(
            "x must be (N, 4), or images or signals of 4 channels or 4 numbers, for gamma of shape "
            "(4,)"
        ),
    ),
    (BatchNormalization(np.ones(4), np.zeros(4)), (3, 5, 2), re.escape("got shape (3, 5, 2)")),
    (BatchNormalization(np.ones(4), np.zeros(4)), (4,), re.escape("got shape (4,)")),
    (
        BatchNormalization(np.ones(4), np.zeros(3)),
        (3, 4),
        re.escape("gamma and beta must have one shape (D,), got (4,) and (3,)"),
    ),
    (
        BatchNormalization(np.ones((2, 2)), np.zeros((2, 2))),
        (3, 4),
        re.escape("gamma and beta must have one shape (D,), got (2, 2) and (2, 2)"),
    ),
]


@pytest.mark.parametrize(("layer", "shape", "message"), REFUSED_INPUTS, ids=lambda value: None)
def test_refused_inputs(layer: Any, shape: Shape, message: str) -> None:
    refused(ValueError, message, layer.forward, np.ones(shape))


@each_case
def test_refused_gradients(case: Case) -> None:
    """Gradients must have the shape of the output."""
    layer = case.layer()
    if isinstance(layer, Dropout) and case.arguments:
        return
    shape = case.forward(layer, case.input()).shape
    for wrong in ((shape[0] + 1, *shape[1:]), (*shape[:-1], shape[-1] + 1)):
        message = rf"(?=.*(dout|grad_output)\b).*{re.escape(str(wrong))}"
        refused(ValueError, message, layer.backward, np.ones(wrong))


def test_refused_gradients_without_dx() -> None:
    layer = Affine(np.ones((3, 4)), np.ones(4))
    layer.forward(np.ones((2, 3)))
    refused(ValueError, r"\d", layer.backward, np.ones((2, 5)), need_dx=False)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan"), 2])
def test_refused_ratios(ratio: float) -> None:
    refused(ValueError, f"^dropout_ratio must be from 0 to 1, got {ratio}$", Dropout, ratio)


@pytest.mark.parametrize("wrong", ["0.5", b"1", None, [0.5, 0.5], 1j], ids=repr)
def test_refused_numbers(wrong: Any) -> None:
    """What is no number is told by the argument's name."""
    message = f"must be a number.*, got {re.escape(repr(wrong))}$"
    refused(TypeError, f"^dropout_ratio {message}", Dropout, wrong)
    for name in ("momentum", "eps"):
        refused(TypeError, f"^{name} {message}", BatchNormalization, [1], [0], **{name: wrong})
    for name in ("alpha", "beta", "k"):
        refused(TypeError, f"^{name} {message}", LocalResponseNormalization, **{name: wrong})


def test_refused_sizes() -> None:
    for size in (0, -1):
        refused(ValueError, f"size must be .*got {size}", LocalResponseNormalization, size)
    for other in (1.0, None, "5", True):
        refused(TypeError, f"size must be .*got {other!r}", LocalResponseNormalization, other)


def test_labels_and_probabilities_may_be_replaced() -> None:
    """The attributes are the textbook's; a gradient of what they now are, or an error, follows."""
    layer = SoftmaxWithLoss()
    scores = normal_values((4, 3))
    layer.forward(scores, [0, 1, 2, 0])
    expected = layer.backward()
    layer.t = np.eye(3)[[0, 1, 2, 0]]
    assert layer.y is not None
    layer.y = np.asfortranarray(layer.y)
    assert_same(layer.backward(), expected)
    for labels in (np.full(4, 1 << 40), np.array([0, 1, 2, -1])):
        layer.t = labels
        refused(ValueError, "^labels in t must be from 0 to 2, got ", layer.backward)
    layer.t, layer.y = np.zeros(4, np.intp), layer.y[:3]
    refused(ValueError, r"^t must have shape \(3,\)", layer.backward)
    layer.y = layer.y[0]
    refused(
        ValueError, r"^y must have shape \(N, classes\) and numbers, got \(3,\)$", layer.backward
    )
