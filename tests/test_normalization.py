"""Batch normalisation and local response normalisation, beside float64 loops over NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradients import assert_gradient
from helpers import LAYOUTS, Array, Shape, assert_close, assert_same, normal_values, refused
from numpy.typing import DTypeLike

import fastconv
from fastconv.layers import BatchNormalization, LocalResponseNormalization

EPS = 1e-5

SHAPES: list[Shape] = [
    *((1, 1), (2, 1), (7, 5), (65, 64), (200, 130), (40, 65)),
    *((1, 1, 1, 1), (2, 3, 1, 1), (3, 5, 3, 5), (5, 67, 3, 3), (70, 4, 2, 2)),
    *((4, 2, 4, 4), (5, 3, 4, 9), (3, 2, 7, 7), (9, 3, 8, 13), (140, 2, 8, 8)),
    *((2, 3, 64, 65), (3, 1, 96, 90), (1, 2, 300, 41), (16, 20, 16, 16)),
]
"""Columns and planes; around vectors, chunks of 16 KiB, several slices, more items than threads."""
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])


def layer_of(shape: Shape, dtype: DTypeLike = "f4", pixels: bool = False) -> BatchNormalization:
    """Make a layer with parameters and running statistics, of features or of all pixels."""
    size = int(np.prod(shape[1:])) if pixels else shape[1]
    gamma, beta, mean, var = (normal_values((size,), dtype, seed) for seed in range(4))
    return BatchNormalization(gamma, beta, 0.9, mean, np.abs(var) + np.ones(1, dtype), eps=EPS)


def wide(array: Any) -> Array:
    return np.asarray(array, np.float64)


def spread(numbers: Any, x: Array) -> Array:
    """Give every number of x the number of its channel."""
    return wide(numbers).reshape(-1, *[1] * (x.ndim - 2))


def normalized(x: Array, mean: Array, var: Array) -> Array:
    return (wide(x) - spread(mean, x)) / np.sqrt(spread(var, x) + EPS)


def moments(x: Array) -> tuple[Array, Array]:
    """Compute mean and variance by two passes over exact float64 copies of a channel."""
    channels = wide(x).swapaxes(0, 1).reshape(x.shape[1], -1)
    mean = np.array([channel.mean() for channel in channels])
    return mean, np.array([np.square(c - m).mean() for c, m in zip(channels, mean)])


def expected_gradients(
    layer: BatchNormalization, x: Array, dout: Array, mean: Array, var: Array, of_batch: bool
) -> tuple[Array, Array, Array]:
    axes, values, grads = (0, *range(2, x.ndim)), normalized(x, mean, var), wide(dout)
    dbeta, dgamma = grads.sum(axis=axes), (grads * values).sum(axis=axes)
    if of_batch:
        grads = grads - (spread(dbeta, x) + values * spread(dgamma, x)) / (x.size / x.shape[1])
    dx = grads * spread(layer.gamma, x) / np.sqrt(spread(var, x) + EPS)
    return dx, dgamma, dbeta


def check(layer: BatchNormalization, x: Array, train_flg: bool, dtype: str) -> None:
    """Compare both passes with the definition."""
    given = wide(layer.running_mean), wide(layer.running_var)
    mean, var = moments(x) if train_flg else given
    gamma, beta = spread(layer.gamma, x), spread(layer.beta, x)
    out = layer.forward(x, train_flg)
    # Sums of few numbers may cancel, so that roundings of the input show.
    assert_close(out, (gamma * normalized(x, mean, var) + beta).astype(dtype), dtype, 9)
    if train_flg:
        results: tuple[Any, ...] = layer.running_mean, layer.running_var
        for running, before, new in zip(results, given, (mean, var)):
            # A given array of float16 is multiplied in float16.
            assert_close(running.astype(dtype), (0.9 * before + 0.1 * new).astype(dtype), dtype, 9)
            assert running.dtype == np.result_type(dtype, np.float32)
    dout = normal_values(x.shape, dtype, 9)
    dx, dgamma, dbeta = expected_gradients(layer, x, dout, mean, var, train_flg)
    count = x.size // x.shape[1]
    assert_close(layer.backward(dout), dx.astype(dtype), dtype, 9)
    assert_close(layer.dgamma, dgamma.astype(dtype), dtype, count)
    assert_close(layer.dbeta, dbeta.astype(dtype), dtype, count)


@each_shape
@each_dtype
@pytest.mark.parametrize("train_flg", [True, False])
def test_definition(level: str, threads: int, shape: Shape, dtype: str, train_flg: bool) -> None:
    if train_flg and shape[0] == 1 and np.prod(shape[2:]) == 1:
        shape = (3, *shape[1:])  # One number has no variance, and its gradient is only rounding.
    check(layer_of(shape, dtype), normal_values(shape, dtype, 5), train_flg, dtype)


def test_one_number(level: str) -> None:
    """The mean of one number is the number, so that beta remains, and no gradient."""
    for shape in ((1, 3), (1, 3, 1, 1)):
        layer = layer_of(shape)
        x = normal_values(shape)
        assert_same(layer.forward(x), layer.beta.reshape(shape))
        np.testing.assert_array_equal(layer.backward(x), np.zeros(shape, "f4"))
        assert_same(layer.dbeta, x.ravel())


@pytest.mark.parametrize("shape", [(6, 4, 5, 5), (70, 3, 3, 3)], ids=str)
def test_pixels_as_features(level: str, shape: Shape) -> None:
    """With as many parameters as an image has numbers, each is normalised by itself."""
    x, dout = normal_values(shape), normal_values(shape, seed=1)
    layer, flat = layer_of(shape, pixels=True), layer_of(shape, pixels=True)
    rows = len(x), -1
    assert_same(layer.forward(x).reshape(rows), flat.forward(x.reshape(rows)))
    assert_same(layer.backward(dout).reshape(rows), flat.backward(dout.reshape(rows)))


# -------------------------------------------------------------------------------- large offsets


@pytest.mark.parametrize("shape", [(300, 5), (8, 5, 30, 30), (70, 5, 3, 3)], ids=str)
@pytest.mark.parametrize(("dtype", "offset"), [("f4", 1e4), ("f4", 1e6), ("f8", 1e6)])
def test_large_offsets(level: str, threads: int, shape: Shape, dtype: str, offset: float) -> None:
    """The variance is that of the distances from the mean, however far from zero it lies."""
    x = (normal_values(shape, "f8", 5) + offset).astype(dtype)
    layer = BatchNormalization(
        np.ones(5, dtype), np.zeros(5, dtype), 0.0, np.zeros(5), np.zeros(5), eps=EPS
    )
    around = x - np.array(offset, dtype)  # Exact, because the numbers are close.
    # The mean is a float64, of which an ulp is 2 ** -33 here.
    ulps = 1 if dtype == "f4" else 1 << 36
    mean, var = moments(around)
    assert_close(layer.forward(x), normalized(around, mean, var).astype(dtype), dtype, ulps * 9)
    assert layer.std is not None
    np.testing.assert_allclose(layer.std, np.sqrt(var + EPS), rtol=2e-6)
    dout = normal_values(shape, dtype, 9)
    dx, dgamma, _ = expected_gradients(layer, around, dout, mean, var, True)
    assert_close(layer.backward(dout), dx.astype(dtype), dtype, ulps * 9)
    assert_close(layer.dgamma, dgamma.astype(dtype), dtype, ulps * x.size // 5)


def test_images_of_very_different_means(level: str) -> None:
    """Chunks whose means differ by far more than their numbers are merged without loss."""
    x = normal_values((6, 2, 50, 50), "f8", 5)
    x += 1e3 * np.arange(6)[:, None, None, None] ** 3
    single = x.astype("f4")
    layer = layer_of(x.shape)
    layer.forward(single)
    mean, var = moments(single)
    np.testing.assert_allclose(wide(layer.mean), mean, rtol=1e-6)
    np.testing.assert_allclose(wide(layer.std), np.sqrt(var + EPS), rtol=1e-6)


def test_constant_channels(level: str) -> None:
    """Numbers that are all the same have no variance, whatever number it is."""
    for dtype in ("f2", "f4", "f8"):
        x = np.full((33, 2, 7, 9), 0.1, dtype)
        layer = layer_of(x.shape, dtype)
        out = layer.forward(x)
        assert_same(out, np.broadcast_to(layer.beta[:, None, None], x.shape))
        assert layer.std is not None
        np.testing.assert_array_equal(layer.std, np.full(2, np.sqrt(EPS)))


# ---------------------------------------------------------------------- infinities and not a number


@pytest.mark.parametrize("shape", [(9, 3), (5, 3, 6, 7), (5, 3, 2, 2)], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_inputs(level: str, shape: Shape, value: float) -> None:
    """They spoil all of their channel, and nothing else."""
    x, layer, clean = normal_values(shape), layer_of(shape), layer_of(shape)
    expected = clean.forward(x).copy()
    x[2, 1] = value
    out = layer.forward(x)
    assert np.isnan(out[:, 1]).all()
    for channel in (0, 2):
        assert_same(out[:, channel], expected[:, channel])
    assert layer.running_mean is not None
    assert layer.running_var is not None
    np.testing.assert_array_equal(layer.running_mean[1], np.float32(value))
    assert np.isnan(layer.running_var[1])
    dx = layer.backward(np.ones(shape, "f4"))
    assert np.isnan(dx[:, 1]).all()
    assert np.isfinite(dx[:, ::2]).all()


def test_not_finite_inputs_in_evaluation(level: str) -> None:
    """With the running statistics, a number spoils its own output and no gradient of the input."""
    for shape in ((9, 3), (5, 3, 6, 7)):
        x, layer = normal_values(shape), layer_of(shape)
        x[2, 1] = np.nan
        out = layer.forward(x, False)
        np.testing.assert_array_equal(np.isnan(out), np.isnan(x))
        dx = layer.backward(np.full(shape, -0.0, "f4"))
        assert layer.dgamma is not None
        assert np.isfinite(dx).all()
        np.testing.assert_array_equal(np.isnan(layer.dgamma), [False, True, False])


def test_zero_variance_without_epsilon(level: str) -> None:
    x = np.array([[-1.0, 3.0], [0.0, 3.0], [1.0, 3.0]])
    layer = BatchNormalization(np.ones(2), np.zeros(2), 0.9, np.zeros(2), np.zeros(2), eps=0)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(layer.forward(x, False)[:, 0], [-np.inf, np.nan, np.inf])
        assert np.isnan(layer.forward(x)[:, 1]).all()


# ------------------------------------------------------------------ threads, layouts, dtypes, sizes


@pytest.mark.parametrize(
    "shape",
    [(64, 3, 40, 40), (9, 130, 16, 16), (400, 700), (1, 2, 400, 400), (128, 64, 3, 3)],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["f2", "f4"])
def test_bits_do_not_depend_on_threads(shape: Shape, dtype: str) -> None:
    """With few threads an item is a channel, and with many it is a slice of one pass."""
    x, dout = normal_values(shape, dtype), normal_values(shape, dtype, 1)
    results = []
    for threads in (1, 2, 3, 16, 64):
        with fastconv.num_threads(threads):
            layer = layer_of(shape, dtype)
            parts = [layer.forward(x), layer.backward(dout), layer.dgamma, layer.dbeta]
            parts += [layer.running_mean, layer.running_var]
            parts += [layer.forward(x, False), layer.backward(dout), layer.dgamma]
            results.append(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
            if len(shape) == 4:
                response = LocalResponseNormalization(3, 0.3)
                results[-1] += response.forward(x).tobytes() + response.backward(dout).tobytes()
    assert len(set(results)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 6, 7)], ids=str)
def test_layouts(level: str, shape: Shape, layout: str) -> None:
    """Results do not depend on the layout of arrays, and are native and contiguous."""
    x, dout, laid = normal_values(shape), normal_values(shape, seed=1), LAYOUTS[layout]
    made: list[list[Array]] = []
    for arrange in (np.array, laid):
        layers: list[Any] = [layer_of(shape)]
        if len(shape) == 4:
            layers.append(LocalResponseNormalization(3, 0.3))
        made.append([])
        for layer in layers:
            given = arrange(x)
            made[-1] += [layer.forward(given), layer.backward(arrange(dout))]
            np.testing.assert_array_equal(given, x)
    for known, result in zip(*made):
        assert_same(result, known)
        assert result.flags.carray
        assert result.dtype.isnative


def test_mixed_dtypes(level: str) -> None:
    """The output has the widest dtype of input and parameters, a gradient that of its output."""
    x, dout = normal_values((4, 3, 5, 5), "f4"), normal_values((4, 3, 5, 5), "f2", 1)
    layer = layer_of(x.shape, "f8")
    layer.running_mean = layer.running_var = None
    exact = layer_of(x.shape, "f8")
    out = layer.forward(x)
    assert_same(out, exact.forward(x.astype("f8")))
    assert layer.running_mean is not None
    assert layer.running_mean.dtype == np.float32
    assert_same(layer.backward(dout), exact.backward(dout.astype("f8")).astype("f2"))
    assert_same(layer.dgamma, exact.dgamma)
    response, wider = LocalResponseNormalization(3, 0.3), LocalResponseNormalization(3, 0.3)
    response.forward(x)
    wider.forward(x.astype("f8"))
    grads = dout.astype("f8")
    assert_same(response.backward(grads), wider.backward(grads))
    assert response.backward(dout).dtype == np.float16


@each_dtype
def test_empty_batches(level: str, threads: int, dtype: str) -> None:
    for shape in ((0, 3), (0, 3, 4, 5), (0, 3, 1, 1)):
        layer, x = layer_of(shape, dtype), np.zeros(shape, dtype)
        assert_same(layer.forward(x, False), x)
        assert_same(layer.backward(x), x)
        assert_same(layer.dgamma, np.zeros(3, dtype))
        assert_same(layer.dbeta, np.zeros(3, dtype))
        if len(shape) == 4:
            response = LocalResponseNormalization()
            assert_same(response.forward(x), x)
            assert_same(response.backward(x), x)


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 0), 0), ((3, 0, 2, 2), 0), ((3, 2, 0, 2), 0), ((0, 0), 0)], ids=str
)
@pytest.mark.parametrize("train_flg", [True, False])
def test_no_features(level: str, shape: Shape, size: int, train_flg: bool) -> None:
    """Without features nothing is normalised: results are as empty as the input."""
    layer, x = BatchNormalization(np.ones(size), np.zeros(size)), np.ones(shape)
    assert_same(layer.forward(x, train_flg), x)
    assert_same(layer.backward(x), x)
    assert_same(layer.dgamma, np.ones(0))
    assert_same(layer.running_mean, np.ones(0))


def test_no_pixels(level: str) -> None:
    """A channel without pixels has no mean; with the running one, there is nothing to do."""
    layer, x = layer_of((3, 2, 0, 4)), np.ones((3, 2, 0, 4), "f4")
    refused(ValueError, "^an empty batch has no mean and variance$", layer.forward, x)
    assert_same(layer.forward(x, False), x)
    assert_same(layer.backward(x), x)
    assert_same(layer.dbeta, np.zeros(2, "f4"))


def test_gradients_that_do_not_fit() -> None:
    """What no longer fits to the forward pass is refused, and no attribute is written."""
    x = np.ones((4, 2))
    layer = BatchNormalization(np.ones(2), np.zeros(2))
    layer.forward(x)
    layer.beta = np.zeros(3)
    text = r"^gamma and beta must have one shape \(D,\), got \(2,\) and \(3,\)$"
    refused(ValueError, text, layer.backward, x)
    layer.gamma = np.ones(3)
    text = (
        r"^gamma and beta must have shape \(2,\), which they had in the forward pass, got \(3,\)$"
    )
    refused(ValueError, text, layer.backward, x)
    assert layer.dgamma is None
    layer.gamma, layer.beta = np.ones(2), np.zeros(2)
    layer.forward(x[:0], False)
    text = r"^dout must have the shape of x, 0 times 2 numbers, got \(1, 2\)$"
    refused(ValueError, text, layer.backward, x[:1])


def test_large_results(level: str, threads: int) -> None:
    """Results that are written past the caches are complete, with rows at any alignment."""
    shape = (6, 2, 613, 607)
    x, dout = normal_values(shape), normal_values(shape, seed=1)
    layer = layer_of(shape)
    mean, var = moments(x)
    out, dx = layer.forward(x), layer.backward(dout)
    gamma, beta = spread(layer.gamma, x), spread(layer.beta, x)
    assert_close(out, (gamma * normalized(x, mean, var) + beta).astype("f4"), "f4", 9)
    expected, *_ = expected_gradients(layer, x, dout, mean, var, True)
    assert_close(dx, expected.astype("f4"), "f4", 9)
    evaluated = normalized(x, wide(layer.running_mean), wide(layer.running_var))
    assert_close(layer.forward(x, False), (gamma * evaluated + beta).astype("f4"), "f4", 9)


def test_the_input_is_kept_and_not_copied() -> None:
    """Both layers need no memory for the backward pass but their input, which exists anyway."""
    x = normal_values((4, 3, 5, 5))
    for layer in (layer_of(x.shape), LocalResponseNormalization()):
        layer.forward(x)
        assert layer.x is not None
        assert np.shares_memory(layer.x, x)


# ------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("train_flg", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 3, 6)], ids=str)
def test_gradients_of_batch_normalization(level: str, shape: Shape, train_flg: bool) -> None:
    x, dout = normal_values(shape, "f8"), normal_values(shape, "f8", 1)
    layer = layer_of(shape, "f8")
    layer.forward(x, train_flg)
    dx, mean, var = layer.backward(dout), layer.running_mean, layer.running_var

    def result() -> Any:
        start = (np.zeros(shape[1]), np.ones(shape[1])) if train_flg else (mean, var)
        again = BatchNormalization(layer.gamma, layer.beta, 0.9, *start, eps=EPS)
        return (again.forward(x, train_flg) * dout).sum()

    assert_gradient(dx, result, x)
    assert_gradient(layer.dgamma, result, layer.gamma)
    assert_gradient(layer.dbeta, result, layer.beta)


# ---------------------------------------------------------------------------- local responses


def response(x: Array, size: int, alpha: float, beta: float, k: float) -> tuple[Array, Array]:
    """Compute output and scale channel by channel."""
    x = wide(x)
    scale = np.empty_like(x)
    for c in range(x.shape[1]):
        low = max(0, c - size // 2)
        window = x[:, low : c - size // 2 + size]
        scale[:, c] = k + alpha / size * np.square(window).sum(axis=1)
    return x * scale**-beta, scale


def response_gradient(
    x: Array, dout: Array, size: int, alpha: float, beta: float, k: float
) -> Array:
    _, scale = response(x, size, alpha, beta, k)
    x, dout = wide(x), wide(dout)
    weight, dx = dout * x * scale ** (-beta - 1), dout * scale**-beta
    for c in range(x.shape[1]):
        low = max(0, c - size // 2)
        around = slice(low, c - size // 2 + size)
        dx[:, around] -= 2 * alpha / size * beta * x[:, around] * weight[:, c : c + 1]
    return dx


RESPONSES: list[Shape] = [
    *((1, 1, 1, 1), (2, 7, 1, 1), (2, 5, 3, 5), (3, 6, 4, 4), (1, 33, 5, 13)),
    *((2, 3, 40, 60), (1, 300, 9, 9)),
]


@pytest.mark.parametrize("shape", RESPONSES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11, 70])
@each_dtype
def test_response(level: str, threads: int, shape: Shape, size: int, dtype: str) -> None:
    x, dout = normal_values(shape, dtype), normal_values(shape, dtype, 1)
    numbers = 0.3, 0.75, 1.5
    layer = LocalResponseNormalization(size, *numbers)
    out, dx = layer.forward(x), layer.backward(dout)
    assert_close(out, response(x, size, *numbers)[0].astype(dtype), dtype)
    assert_close(dx, response_gradient(x, dout, size, *numbers).astype(dtype), dtype, size)


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6, 0.0, 2.0, -1.0])
@each_dtype
def test_exponents(level: str, beta: float, dtype: str) -> None:
    x, dout = normal_values((2, 6, 5, 7), dtype), normal_values((2, 6, 5, 7), dtype, 1)
    layer = LocalResponseNormalization(3, 0.3, beta, 1.5)
    out, dx = layer.forward(x), layer.backward(dout)
    assert_close(out, response(x, 3, 0.3, beta, 1.5)[0].astype(dtype), dtype)
    assert_close(dx, response_gradient(x, dout, 3, 0.3, beta, 1.5).astype(dtype), dtype, 3)


def test_sums_do_not_drift(level: str) -> None:
    """A very large number leaves nothing behind in the sums of channels further away."""
    x = np.ones((1, 64, 4, 4), "f4")
    x[0, 5] = 1e8
    out = LocalResponseNormalization(3, 3.0, 0.5, 0.0).forward(x)
    np.testing.assert_allclose(out[0, 8:63], np.sqrt(np.float32(1 / 3)), rtol=1e-6)


def test_scales_of_zero_and_infinity(level: str) -> None:
    """As for NumPy's power, they are infinite and zero factors."""
    for beta in (0.75, 0.5, 1.0, 0.6):
        layer = LocalResponseNormalization(1, 1.0, beta, 0.0)
        out = layer.forward(np.array([0.0, np.nan, np.inf, 1e30], "f4").reshape(1, 1, 2, 2))
        np.testing.assert_array_equal(out.ravel(), np.array([np.nan, np.nan, np.nan, 0], "f4"))


@pytest.mark.parametrize("size", [2, 3])
def test_gradients_of_responses(level: str, size: int) -> None:
    x, dout = normal_values((2, 5, 2, 3), "f8"), normal_values((2, 5, 2, 3), "f8", 1)
    for beta in (0.75, 0.6):
        layer = LocalResponseNormalization(size, 0.3, beta, 1.5)

        def result(layer: Any = layer) -> Any:
            return (layer.forward(x) * dout).sum()

        layer.forward(x)
        assert_gradient(layer.backward(dout), result, x)


# --------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("train_flg", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (4, 5, 7, 7), (8, 5, 40, 40)], ids=str)
def test_pytorch(torch: Any, shape: Shape, train_flg: bool) -> None:
    x, dout = normal_values(shape), normal_values(shape, seed=9)
    layer = layer_of(shape)
    given = x, layer.gamma, layer.beta
    tensors = [torch.from_numpy(array.copy()).requires_grad_() for array in given]
    running = [
        torch.from_numpy(wide(a).astype("f4")) for a in (layer.running_mean, layer.running_var)
    ]
    expected = torch.nn.functional.batch_norm(
        tensors[0], *running, *tensors[1:], train_flg, 0.1, EPS
    )
    expected.backward(torch.from_numpy(dout))
    assert_close(layer.forward(x, train_flg), expected.detach().numpy(), "f4", 9)
    dx = layer.backward(dout)
    count = x.size // x.shape[1]
    for ours, tensor in zip((dx, layer.dgamma, layer.dbeta), tensors, strict=True):
        assert_close(ours, tensor.grad.numpy(), "f4", count)
    assert_close(layer.running_mean, running[0].numpy(), "f4", 9)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_pytorch_responses(torch: Any, size: int) -> None:
    x, dout = normal_values((2, 9, 13, 13)), normal_values((2, 9, 13, 13), seed=1)
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    expected = torch.nn.functional.local_response_norm(tensor, size, 0.3, 0.75, 2.0)
    expected.backward(torch.from_numpy(dout))
    layer = LocalResponseNormalization(size, 0.3, 0.75, 2.0)
    assert_close(layer.forward(x), expected.detach().numpy(), "f4", 9)
    assert_close(layer.backward(dout), tensor.grad.numpy(), "f4", 9)
