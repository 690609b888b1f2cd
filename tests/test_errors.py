"""Every rejected call: the exception, the argument and the numbers in its message, out= untouched.

Messages are matched as regular expressions: an argument's name, what came, what is accepted. That
each begins with the name of the function that was called is checked by `refused`, for all of them.
"""

from __future__ import annotations

import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    LAYOUTS,
    OPERATIONS,
    Array,
    Operation,
    each_operation,
    each_with_out,
    integer_values,
    refused,
)

import fastconv
from fastconv import augment, datasets, layers, models, training
from fastconv.models import Sequential

IMAGES = integer_values((2, 3, 6, 7))
SHAPE = (2, 3, 6, 7)


def shown(value: object) -> str:
    """Escape a value, as messages show it, for a regular expression."""
    return re.escape(repr(value))


# ----------------------------------------------------------------------------- window arguments

COLUMNS = np.ones((2, 12, 30), "f4")
ROWS = np.ones((60, 12), "f4")
POOLED = np.ones((2, 3, 3, 3), "f4")
PLACES = np.zeros((2, 3, 3, 3), "i8")
WEIGHT = np.ones((4, 3, 2, 2), "f4")
CONVOLVED = np.ones((2, 4, 5, 6), "f4")


SLIDING: dict[str, Callable[..., Any]] = {
    "im2col": partial(fastconv.im2col, IMAGES, 2, 2),
    "col2im": partial(fastconv.col2im, ROWS, SHAPE, 2, 2),
    "unfold": partial(fastconv.unfold, IMAGES, kernel_size=2),
    "fold": partial(fastconv.fold, COLUMNS, (6, 7), kernel_size=2),
    "max_pool2d": partial(fastconv.max_pool2d, IMAGES, kernel_size=2),
    "max_unpool2d": partial(fastconv.max_unpool2d, POOLED, PLACES, kernel_size=2),
    "avg_pool2d": partial(fastconv.avg_pool2d, IMAGES, kernel_size=2),
    "avg_pool2d_backward": partial(fastconv.avg_pool2d_backward, POOLED, SHAPE, kernel_size=2),
    "conv2d": partial(fastconv.conv2d, IMAGES, WEIGHT),
    "conv2d_backward": partial(fastconv.conv2d_backward, CONVOLVED, IMAGES, WEIGHT),
    "conv_transpose2d": partial(fastconv.conv_transpose2d, CONVOLVED, WEIGHT),
}
"""The functions with window arguments; without any, the arrays fit."""
TEXTBOOK = ["im2col", "col2im"]
PYTORCH = ["unfold", "fold"]
POOLINGS = ["max_pool2d", "avg_pool2d", "avg_pool2d_backward"]
CONVOLUTIONS = ["conv2d", "conv2d_backward", "conv_transpose2d"]
SIZES_AND_STEPS = [
    *((name, "stride") for name in SLIDING),
    *((name, "kernel_size") for name in SLIDING if name not in [*TEXTBOOK, *CONVOLUTIONS]),
    *((name, "dilation") for name in [*TEXTBOOK, *PYTORCH, "max_pool2d", *CONVOLUTIONS]),
]

NOT_POSITIVE = [0, -1, np.int32(-3), (1, 0), (0, 1), [2, -2], np.array([-1, 1])]
NOT_A_PAIR = [(), (2,), (1, 2, 3), [], np.array([1, 2, 3])]
NOT_INTEGERS = [
    *(1.0, 2.5, float("nan"), True, False, "2", b"2", None, 1j, object),
    *((1.0, 1), (1, 1.0), (True, 1), (1, True), [1, "1"], (None, 1)),
    *(np.float32(1), np.bool_(True), np.array([1.0, 2.0]), np.array([True, True])),
    *({1, 2}, ((1, 1), (1, 1))),
]


@pytest.mark.parametrize(("name", "argument"), SIZES_AND_STEPS)
def test_sizes_and_steps(name: str, argument: str) -> None:
    """Only positive ints and pairs are accepted, even after a call with an equal value."""
    call = SLIDING[name]
    good = 2 if argument == "kernel_size" or "pool" in name else 1
    message = f"{argument} must be a positive int or a pair of them, got "
    if argument != "dilation" or name != "max_pool2d":
        call(**{argument: good})
        call(**{argument: (good, good)})
    else:
        call(dilation=1)
    for value in [*NOT_POSITIVE, *NOT_A_PAIR]:
        refused(ValueError, message + shown(value), call, **{argument: value})
    for value in [*NOT_INTEGERS, float(good), (float(good), good), (good, np.float64(good))]:
        if value is None and argument == "stride" and "pool" in name:
            call(stride=None)  # a pooling's stride is its kernel's size then
        else:
            refused(TypeError, message + shown(value), call, **{argument: value})


@pytest.mark.parametrize("position", [0, 1])
def test_filter_sizes(position: int) -> None:
    """im2col and col2im accept only one int for each size."""
    argument = ("filter_h", "filter_w")[position]
    for one in (1, 2):  # What is remembered of them must not let 1.0, True and 2.0 pass.
        fastconv.im2col(IMAGES, one, one)
    for value, error in (
        *((value, ValueError) for value in (0, -2, np.int64(-1))),
        *((value, TypeError) for value in (1.0, 2.0, True, "1", None, (2, 2), [2], np.float64(2))),
    ):
        sizes: list[Any] = [2, 2]
        sizes[position] = value
        message = f"{argument} must be a positive int, got {shown(value)}"
        refused(error, message, fastconv.im2col, IMAGES, *sizes)
        refused(error, message, fastconv.col2im, ROWS, SHAPE, *sizes)


BAD_PADDINGS: list[tuple[type[Exception], list[Any]]] = [
    (ValueError, [-1, np.int8(-2), (1, -1), (-1, 1), ((0, 0), (0, -1)), ((-1, 0), (0, 0))]),
    (ValueError, [(), (1,), (1, 2, 3), ((0, 0),), ((0, 0), (0, 0), (0, 0)), ((), ())]),
    (ValueError, [((0, 0), (0,)), ((0, 0, 0), (0, 0, 0)), np.zeros((2, 3), int)]),
    (ValueError, ["SAME", "full", "", "valid "]),
    (TypeError, [0.0, 1.5, True, False, None, b"same", {0}, np.float64(0), np.bool_(False)]),
    (TypeError, [(0.0, 0), (0, True), (None, 0), np.array([0.0, 0.0])]),
]
BAD_SIDES = [((0, 0), (0, 0.0)), ((False, 0), (0, 0)), np.zeros((2, 2)), np.zeros((2, 2), bool)]


@pytest.mark.parametrize("name", SLIDING)
def test_padding(name: str) -> None:
    argument = "pad" if name in TEXTBOOK else "padding"
    call = SLIDING[name]
    call(**{argument: 0})
    call(**{argument: ((0, 0), (0, 0))})
    for error, values in BAD_PADDINGS:
        for value in values:
            message = f"{argument} must be .*non-negative int.*got {shown(value)}"
            refused(error, message, call, **{argument: value})
    for value in BAD_SIDES:  # the message may show the bad side alone
        message = rf"{argument} must be .*non-negative int.*got .*(0\.|False)"
        refused(TypeError, message, call, **{argument: value})
    refused(ValueError, f"{argument} must be", call, **{argument: ((0, 0), 0)})


@pytest.mark.parametrize("name", [*TEXTBOOK, *PYTORCH, "conv2d", "conv2d_backward"])
def test_pad_modes(name: str) -> None:
    for value in ("linear_ramp", "Constant", "", "zeros", "circular"):
        message = f"pad_mode must be .*'edge'.*'wrap'.*got {shown(value)}"
        refused(ValueError, message, SLIDING[name], pad_mode=value)
    for other in (None, 0, b"edge", ("edge",), ["edge"], np.pad):
        message = f"pad_mode must be .*got {shown(other)}"
        refused(TypeError, message, SLIDING[name], pad_mode=other)


def not_fitting(kernel: object, dilation: object, padded: object) -> str:
    return re.escape(
        f"kernel {kernel} with dilation {dilation} does not fit the padded input {padded}"
    )


@pytest.mark.parametrize("name", [*PYTORCH, *POOLINGS])
def test_kernels_that_do_not_fit(name: str) -> None:
    call = SLIDING[name]
    refused(ValueError, not_fitting((7, 7), (1, 1), (6, 7)), call, kernel_size=7)
    padded: dict[str, Any] = {"kernel_size": (9, 2), "padding": ((0, 1), (0, 0))}
    refused(ValueError, not_fitting((9, 2), (1, 1), (7, 7)), call, **padded)


@pytest.mark.parametrize("name", POOLINGS)
def test_kernels_do_not_fit_in_ceil_mode_either(name: str) -> None:
    message = not_fitting((7, 2), (1, 1), (6, 7))
    refused(ValueError, message, SLIDING[name], kernel_size=(7, 2), ceil_mode=True)


@pytest.mark.parametrize("name", [*TEXTBOOK, *PYTORCH, "max_pool2d", "conv2d", "conv2d_backward"])
def test_dilated_kernels_that_do_not_fit(name: str) -> None:
    message = not_fitting((2, 2), (6, 1), (6, 7))
    refused(ValueError, message, SLIDING[name], dilation=(6, 1))


def test_filters_that_do_not_fit() -> None:
    message = not_fitting((7, 1), (1, 1), (6, 7))
    refused(ValueError, message, fastconv.im2col, IMAGES, 7, 1)
    refused(ValueError, message, fastconv.col2im, ROWS, SHAPE, 7, 1)
    tall = np.ones((4, 3, 7, 1))
    refused(ValueError, message, fastconv.conv2d, IMAGES, tall)
    refused(ValueError, message, fastconv.conv2d_backward, CONVOLVED, IMAGES, tall)
    message = not_fitting((2, 4), (3, 3), (8, 9))
    refused(ValueError, message, fastconv.im2col, IMAGES, 2, 4, 1, 1, dilation=3)
    refused(ValueError, message, fastconv.col2im, ROWS, SHAPE, 2, 4, 1, 1, dilation=3)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_groups(name: str) -> None:
    call = SLIDING[name]
    call(groups=1)  # What is remembered of it must not let 1.0 and True pass.
    message = "^groups must be a positive int, got "
    for value in (0, -1, np.int64(-2)):
        refused(ValueError, message + shown(value), call, groups=value)
    for other in (1.0, True, "1", None, (1, 1), [1], np.float64(1)):
        refused(TypeError, message + shown(other), call, groups=other)
    what = "channels" if name == "conv_transpose2d" else "filters"
    message = f"^groups must divide weight's 4 {what}, got "
    for value in (3, 5, 8):
        refused(ValueError, message + shown(value) + "$", call, groups=value)


def test_output_padding() -> None:
    call = SLIDING["conv_transpose2d"]
    message = "^output_padding must be a non-negative int or a pair of them, got "
    for value in (-1, np.int32(-3), (0, -1), [-2, 0], np.array([-1, 1]), *NOT_A_PAIR):
        refused(ValueError, message + shown(value), call, output_padding=value)
    for other in NOT_INTEGERS:
        refused(TypeError, message + shown(other), call, output_padding=other)
    for value, pair in ((1, (1, 1)), ((0, 1), (0, 1)), ([5, 0], (5, 0))):
        message = (
            f"output_padding must be smaller than stride or dilation, got {pair} with stride "
            "(1, 1) and dilation (1, 1)"
        )
        refused(ValueError, f"^{re.escape(message)}$", call, output_padding=value)
    for window in ({"stride": (2, 3)}, {"dilation": (2, 3)}):
        assert call(**window, output_padding=(1, 2)).shape[2:] > call(**window).shape[2:]
        wrong: dict[str, Any] = {**window, "output_padding": (1, 3)}
        refused(ValueError, "^output_padding must be smaller than stride or dil", call, **wrong)


def test_padding_of_a_transposed_convolution() -> None:
    call = SLIDING["conv_transpose2d"]
    message = '^padding must not be "same" here: it does not tell the size$'
    refused(ValueError, message, call, padding="same")
    refused(ValueError, message, fastconv.max_unpool2d, POOLED, PLACES, 2, padding="same")
    assert call(padding=(2, 3)).shape == (2, 3, 2, 1)
    for padding, pads, left in (
        (3, "3", (0, 1)),
        ((0, 4), "((0, 0), (4, 4))", (6, -1)),
        (((1, 5), (0, 0)), "((1, 5), (0, 0))", (0, 7)),
    ):
        message = (
            f"padding {pads} leaves nothing: the output for input (5, 6), kernel (2, 2), stride "
            f"(1, 1) and dilation (1, 1) would be {left}"
        )
        refused(ValueError, f"^{re.escape(message)}$", call, padding=padding)


MASKS: list[Any] = [(True, True), (False,) * 4, (1, 1, 1), "yes", None, True, 7, (True, None, True)]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_output_masks(mask: Any) -> None:
    message = f"^output_mask must be a sequence of 3 bools, got {shown(mask)}$"
    error = ValueError if mask in MASKS[:2] else TypeError
    refused(error, message, SLIDING["conv2d_backward"], output_mask=mask)


def test_whole_messages() -> None:
    image = np.zeros((1, 1, 3, 3))
    calls: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: fastconv.im2col(image, 2, 2, 0),
            "im2col: stride must be a positive int or a pair of them, got 0",
        ),
        (
            lambda: fastconv.unfold(image, 5),
            "unfold: kernel (5, 5) with dilation (1, 1) does not fit the padded input (3, 3)",
        ),
        (
            lambda: fastconv.conv2d(np.ones((8, 3, 28, 28)), np.ones((16, 4, 3, 3))),
            "conv2d: input has 3 channels but weight expects 4 "
            "(input (8, 3, 28, 28), weight (16, 4, 3, 3), groups 1)",
        ),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


FUNCTIONS = [
    name
    for name in fastconv.__all__
    if callable(getattr(fastconv, name)) and inspect.signature(getattr(fastconv, name)).parameters
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_messages_begin_with_the_name(name: str) -> None:
    """Whatever the function is, it refuses None for all that it requires."""
    function = getattr(fastconv, name)
    parameters = inspect.signature(function).parameters.values()
    required = [None for parameter in parameters if parameter.default is parameter.empty]
    with pytest.raises(TypeError, match=rf"^{name}: \w+ must be ") as caught:
        function(*required)
    assert str(caught.value).count(f"{name}: ") == 1


def test_python_checks_signatures_itself() -> None:
    with pytest.raises(TypeError, match=r"^conv2d\(\) missing 2 required positional arguments"):
        fastconv.conv2d()  # type: ignore[call-arg]


def test_errors_in_the_function_of_a_user_name_what_it_calls() -> None:
    """A layer of a user, within a network, is no part of the library."""

    class Halved:
        def forward(self, x: Array) -> Array:
            return fastconv.avg_pool2d(x, 99)

        def backward(self, dout: Array) -> Array:
            return dout

    network = Sequential((1, 8, 8), dtype="f4")
    with pytest.raises(ValueError, match=r"behind .*: avg_pool2d: kernel \(99, 99\)"):
        network.add(Halved())


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_padding_is_smaller_than_the_window(name: str) -> None:
    for padding in (2, (0, 2), ((2, 0), (0, 0)), ((0, 2), (0, 0)), ((0, 0), (0, 3))):
        refused(ValueError, "padding must be smaller", SLIDING[name], padding=padding)


def test_pooling_windows_hold_a_pixel() -> None:
    """A dilated window around a small image may meet only padding, and is refused."""
    low, narrow = np.ones((1, 1, 1, 9)), np.ones((1, 1, 9, 2))
    refused(ValueError, "window.*pixel", fastconv.max_pool2d, low, (2, 1), 1, (1, 0), (2, 1))
    refused(ValueError, "window.*pixel", fastconv.max_pool2d, narrow, (1, 2), 1, (0, 3), (1, 4))
    assert fastconv.max_pool2d(narrow, (1, 2), 3, (0, 3), (1, 4)).shape == (1, 1, 3, 2)


# ------------------------------------------------------------------------------- shapes of arrays


def test_ndim() -> None:
    calls: list[tuple[str, Callable[[Array], Any], tuple[int, ...]]] = [
        ("input_data", lambda a: fastconv.im2col(a, 1, 1), (4,)),
        ("col", lambda a: fastconv.col2im(a, (1, 1, 1, 1), 1, 1), (2,)),
        ("input", lambda a: fastconv.unfold(a, 1), (3, 4)),
        ("input", lambda a: fastconv.fold(a, (1, 1), 1), (2, 3)),
        ("input", lambda a: fastconv.max_pool2d(a, 1), (3, 4)),
        ("input", lambda a: fastconv.avg_pool2d(a, 1), (3, 4)),
        ("input", lambda a: fastconv.max_unpool2d(a, np.zeros(a.shape, int), 1), (3, 4)),
        (
            "grad_output",
            lambda a: fastconv.max_pool2d_backward(a, np.zeros(a.shape, int), a.shape),
            (3, 4),
        ),
        ("grad_output", lambda a: fastconv.avg_pool2d_backward(a, a.shape, 1), (3, 4)),
        ("input", lambda a: fastconv.conv2d(a, ONE), (3, 4)),
        ("input", lambda a: fastconv.conv2d_backward(a, a, ONE), (3, 4)),
        ("input", lambda a: fastconv.conv_transpose2d(a, ONE), (3, 4)),
        ("weight", lambda a: fastconv.conv2d(ONE, a), (4,)),
        ("weight", lambda a: fastconv.conv2d_backward(ONE, ONE, a), (4,)),
        ("weight", lambda a: fastconv.conv_transpose2d(ONE, a), (4,)),
    ]
    for argument, call, accepted in calls:
        for ndim in range(7):
            array = np.ones((1,) * ndim, "f4")
            if ndim in accepted:
                call(array)
            else:
                message = f"{argument} must have .*{accepted[-1]}.*{shown(array.shape)}"
                refused(ValueError, message, call, array)


@each_operation
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_empty_axes(operation: Operation, axis: int) -> None:
    """Images need channels and pixels, even in an empty batch."""
    for count in (2, 0):
        sizes = [count, 3, 6, 7]
        sizes[axis] = 0
        shape = tuple(sizes)
        arrays = [np.zeros(size, "i8") for size in operation.inputs(shape).values()]
        arrays[0] = arrays[0].astype("f4")
        refused(ValueError, r"\b0\b", operation.call, arrays, shape)


def test_shapes_of_columns() -> None:
    shape: tuple[int, ...]
    for shape in ((59, 12), (61, 12), (60, 11), (60, 24), (12, 60)):
        message = rf"col must have shape.*\(60, 12\).*{shown(shape)}"
        refused(ValueError, message, fastconv.col2im, np.ones(shape), SHAPE, 2, 2)
    for shape in ((2, 12, 29), (2, 12, 31), (2, 11, 30), (2, 30, 12), (12, 29), (13, 30)):
        message = f"input must have shape.*30.*{shown(shape)}"
        refused(ValueError, message, fastconv.fold, np.ones(shape), (6, 7), 2)


def test_shapes_of_gradients() -> None:
    shape: tuple[int, ...]
    for shape in ((2, 3, 3, 4), (2, 3, 2, 3), (2, 2, 3, 3), (1, 3, 3, 3)):
        message = rf"grad_output must have shape \(2, 3, 3, 3\).*{shown(shape)}"
        refused(ValueError, message, fastconv.avg_pool2d_backward, np.ones(shape), SHAPE, 2)
    for shape in ((2, 4, 5, 7), (2, 4, 4, 6), (2, 3, 5, 6), (1, 4, 5, 6), (4, 5, 6), (0, 4, 5, 6)):
        message = (
            "grad_output must have shape (2, 4, 5, 6) for input (2, 3, 6, 7), weight "
            f"(4, 3, 2, 2), stride 1, padding 0 and dilation 1, got {shape}"
        )
        arrays = (np.ones(shape), IMAGES, WEIGHT)
        refused(ValueError, f"^{re.escape(message)}$", fastconv.conv2d_backward, *arrays)
    message = r"grad_output must have shape \(4, 5, 6\) for input \(3, 6, 7\)"
    refused(ValueError, message, fastconv.conv2d_backward, CONVOLVED, IMAGES[0], WEIGHT)
    message = r"grad_output must have 4 dimensions or 3 \(no batch\), got shape \(5, 6\)"
    refused(ValueError, message, fastconv.conv2d_backward, CONVOLVED[0, 0], IMAGES, WEIGHT)
    unbatched = np.ones((3, 3, 3))
    message = "(grad_output|input_shape) must"
    refused(ValueError, message, fastconv.avg_pool2d_backward, unbatched, SHAPE, 2)
    for wrong in ((1, 3, 6, 7), (2, 4, 6, 7), (3, 6, 7), (2, 3, 6)):
        message = f"input_shape.*{shown(wrong)}"
        refused(ValueError, message, fastconv.max_pool2d_backward, POOLED, PLACES, wrong)


def test_shapes_of_weights() -> None:
    """Weights must match the channels of the images, and filters must divide into groups."""
    calls: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
        (fastconv.conv2d, (IMAGES,), "filters"),
        (fastconv.conv2d_backward, (CONVOLVED, IMAGES), "filters"),
        (fastconv.conv_transpose2d, (IMAGES,), "channels"),
    ]
    for call, arrays, _ in calls:
        for axis in range(4):
            shape = tuple(0 if i == axis else size for i, size in enumerate(WEIGHT.shape))
            message = f"^weight must not be empty, got shape {shown(shape)}$"
            refused(ValueError, message, call, *arrays, np.ones(shape))
    mismatches = [(calls[i], (4, 2, 2, 2), 1, 2) for i in (0, 1)]
    mismatches += [(calls[i], (4, 3, 2, 2), 2, 6) for i in (0, 1)]
    mismatches += [(calls[2], (4, 3, 2, 2), 1, 4), (calls[2], (4, 3, 2, 2), 2, 4)]
    for (call, arrays, _), shape, groups, channels in mismatches:
        message = (
            f"input has 3 channels but weight expects {channels} (input (2, 3, 6, 7), weight "
            f"{shape}, groups {groups})"
        )
        weight = np.ones(shape)
        refused(ValueError, f"^{re.escape(message)}$", call, *arrays, weight, groups=groups)
    message = re.escape("input has 3 channels but weight expects 2 (input (3, 6, 7), weight ")
    refused(ValueError, message, fastconv.conv2d, IMAGES[0], np.ones((4, 2, 2, 2)))


def test_shapes_of_biases() -> None:
    calls: list[tuple[Callable[..., Any], Array, int]] = [
        (fastconv.conv2d, IMAGES, 4),
        (fastconv.conv_transpose2d, CONVOLVED, 3),
    ]
    for call, images, filters in calls:
        for shape in ((), (1,), (filters + 1,), (0,), (filters, 1), (1, filters)):
            message = f"bias must have shape ({filters},), one a filter, got {shape}"
            bias = np.ones(shape)
            refused(ValueError, f"^{re.escape(message)}$", call, images, WEIGHT, bias)


def test_shapes_of_indices() -> None:
    for shape in ((2, 3, 3, 4), (2, 3, 9), (3, 3, 3), (1, 2, 3, 3, 3), (0, 3, 3, 3)):
        indices = np.zeros(shape, int)
        message = rf"indices must .*\(2, 3, 3, 3\).*{shown(shape)}"
        refused(ValueError, message, fastconv.max_pool2d_backward, POOLED, indices, SHAPE)
        refused(ValueError, message, fastconv.max_unpool2d, POOLED, indices, 2)


SHAPED: dict[str, Callable[[Any], Any]] = {
    "col2im": lambda shape: fastconv.col2im(ROWS, shape, 2, 2),
    "max_pool2d_backward": lambda shape: fastconv.max_pool2d_backward(POOLED, PLACES, shape),
    "avg_pool2d_backward": lambda shape: fastconv.avg_pool2d_backward(POOLED, shape, 2),
}


@pytest.mark.parametrize("call", SHAPED.values(), ids=SHAPED.keys())
def test_input_shapes(call: Callable[[Any], Any]) -> None:
    for same in (SHAPE, list(SHAPE), np.array(SHAPE), tuple(map(np.int32, SHAPE))):
        assert call(same).shape == SHAPE
    shapes = [(), (6, 7), (2, 3, 6), (2, 3, 6, 7, 1), (-2, 3, 6, 7), (2, 3, -6, -7), (2, 0, 6, 7)]
    for shape in shapes:
        refused(ValueError, f"input_shape must .*{shown(shape)}", call, shape)
    integers = [(2, 3, 6.0, 7), (2, 3, True, 7), (2, 3, None, 7), np.array(SHAPE, float)]
    for value in [None, 6, "2367", {2, 3, 6, 7}, *integers]:
        refused(TypeError, f"input_shape must .*{shown(value)}", call, value)


SIZED: dict[str, Callable[[Any], Any]] = {
    "fold": lambda size: fastconv.fold(COLUMNS, size, 2),
    "max_unpool2d": lambda size: fastconv.max_unpool2d(POOLED, PLACES, 2, output_size=size),
}


@pytest.mark.parametrize("call", SIZED.values(), ids=SIZED.keys())
def test_output_sizes(call: Callable[[Any], Any]) -> None:
    for same in ((6, 7), [6, 7], np.array([6, 7])):
        assert call(same).shape == SHAPE
    for size in ((6, 0), (-6, 7), (6, 7, 1), (6,), ()):
        refused(ValueError, f"output_size must .*{shown(size)}", call, size)
    for value in ("67", (6.0, 7), (6, True), np.array([6.0, 7])):
        refused(TypeError, f"output_size must .*{shown(value)}", call, value)


def test_unpooled_size_is_positive() -> None:
    refused(ValueError, "padding", fastconv.max_unpool2d, POOLED, PLACES, 2, 1, 2)


def test_padding_of_an_unpooled_size_has_a_limit() -> None:
    """The limit holds even if the given size makes the padding irrelevant."""
    for window in ({"padding": 2**41}, {"padding": ((0, 2**41), (0, 0))}, {"stride": 2**41}):
        refused(
            ValueError,
            f"is too large: the limit is {2**40} positions$",
            fastconv.max_unpool2d,
            POOLED,
            PLACES,
            2,
            output_size=(6, 7),
            **window,
        )


# --------------------------------------------------------------------------------- what is no array


class Thing:
    """Something that NumPy can only hold as an object."""


NO_ARRAYS: dict[str, Callable[[], Any]] = {
    "NoneType": lambda: None,
    "str": lambda: "abc",
    "bytes": lambda: b"abc",
    "dict": dict,
    "set": lambda: {1.0},
    "generator": lambda: (i for i in range(3)),
    "Thing": Thing,
}
ARRAYS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{
        operation.name: (operation.call, (operation.arrays(SHAPE), SHAPE))
        for operation in OPERATIONS.values()
    },
    "matmul": (lambda arrays, _: fastconv.matmul(*arrays), ([np.eye(2), np.eye(2)], ())),
    "relu": (lambda arrays, _: fastconv.relu(*arrays), ([np.eye(2)], ())),
    "relu_backward": (
        lambda arrays, _: fastconv.relu_backward(*arrays),
        ([np.eye(2), np.eye(2) > 0], ()),
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("kind", NO_ARRAYS)
def test_what_is_no_array(name: str, kind: str) -> None:
    """The error is a TypeError with the type, not one about the shape that NumPy gives it."""
    call, (arrays, shape) = ARRAYS[name]
    optional = ["bias"] if name in ("conv2d", "conv_transpose2d") and kind == "NoneType" else []
    for which in range(len(arrays) - len(optional)):
        given = [*arrays[:which], NO_ARRAYS[kind](), *arrays[which + 1 :]]
        refused(TypeError, rf"^\w+ must be .*; got {kind}$", call, given, shape)


@pytest.mark.parametrize("name", ARRAYS)
def test_sequences_that_are_no_array(name: str) -> None:
    call, (arrays, shape) = ARRAYS[name]
    for which in range(len(arrays)):
        given = [*arrays[:which], [[1.0], [1.0, 2.0]], *arrays[which + 1 :]]
        refused(ValueError, r"^\w+ cannot be made an array: .*inhomogeneous", call, given, shape)


def test_the_dtype_is_checked_before_the_shape() -> None:
    refused(TypeError, "input must be of .*; got dtype complex128$", fastconv.conv2d, [1j], WEIGHT)
    refused(TypeError, "weight must be of .*; got dtype object$", fastconv.conv2d, IMAGES, [None])
    refused(ValueError, r"input must have 4 dimensions.*got shape \(\)", fastconv.conv2d, 3, WEIGHT)


def test_plans_of_what_is_no_array() -> None:
    for dtype in ("no dtype", 7, ["f4", 3]):
        refused(
            TypeError,
            "^dtype is none of NumPy's: ",
            fastconv.plan_conv2d,
            SHAPE,
            SHAPE,
            dtype=dtype,
        )
    for shape in ((1, 1, 2**70, 2), (1, 1, 2**62, 2**40), (0, 1, 2**62, 2**40), (1,) * 70):
        message = f"^input_shape {re.escape(str(shape))} is of no array: "
        refused(ValueError, message, fastconv.plan_conv2d, shape, SHAPE)


# -------------------------------------------------------------------------------- what would fit

HINTS: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
    (fastconv.conv2d, (np.ones((6, 7)), WEIGHT), "; input[None] is one with one channel"),
    (fastconv.max_pool2d, (np.ones((6, 7)), 2), "; input[None] is one with one channel"),
    (fastconv.im2col, (np.ones((6, 7)), 2, 2), "; input_data[None, None] is one with one channel"),
    (fastconv.im2col, (np.ones((3, 6, 7)), 2, 2), "; input_data[None] is a batch of one"),
    (fastconv.conv2d, (IMAGES, np.ones((2, 2))), "; weight[None, None] is one with one channel"),
    (
        fastconv.conv2d,
        (IMAGES, np.ones((4, 2, 2))),
        "; weight[:, None] are filters of one channel each, weight[None] is one filter",
    ),
    (
        fastconv.conv2d,
        (np.ones((1, 3, 6, 7, 8)), WEIGHT),
        "; windows over three dimensions are not covered, scipy.ndimage.correlate has them",
    ),
    (fastconv.conv2d, (np.ones(6), WEIGHT), "got shape (6,)"),
]


@pytest.mark.parametrize(("call", "arguments", "hint"), HINTS)
def test_hints(call: Callable[..., Any], arguments: tuple[Any, ...], hint: str) -> None:
    refused(ValueError, f"{re.escape(hint)}$", call, *arguments)


def test_hint_of_channels_that_come_last() -> None:
    """The transposition that the message suggests works."""
    images = np.moveaxis(IMAGES, 1, -1)
    for array, order in ((images, (0, 3, 1, 2)), (images[0], (2, 0, 1))):
        message = re.escape(f"; if its last axis are the channels, pass input.transpose{order}")
        refused(ValueError, f"{message}$", fastconv.conv2d, array, WEIGHT)
        fastconv.conv2d(array.transpose(order), WEIGHT)
    refused(ValueError, r"groups 1\)$", fastconv.conv2d, np.ones((2, 5, 6, 7)), WEIGHT)


# --------------------------------------------------------------------------------- sizes too large

LARGE = [2**31, 2**32, 2**40, 2**62, 2**63, 2**64, 2**100]
"""Their products with each other or with an item's size overflow 64 bits."""
TOO_LARGE = (ValueError, MemoryError)
IMAGE = np.arange(4.0).reshape(1, 1, 2, 2)
ONE = np.ones((1, 1, 1, 1))
ZERO = np.zeros((1, 1, 1, 1), int)


def outcome(call: Callable[[], Any]) -> Any:
    """Return a call's result, or the message with which it refuses a size."""
    try:
        return call()
    except TOO_LARGE as error:
        return str(error)


@pytest.mark.parametrize("large", LARGE)
def test_results_too_large(large: int) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: fastconv.im2col(IMAGE, 1, 1, pad=large),
        lambda: fastconv.im2col(IMAGE, 1, 1, pad=((0, large), (large, 0)), pad_mode="wrap"),
        lambda: fastconv.unfold(IMAGE, 1, padding=large, pad_mode="reflect"),
        lambda: fastconv.col2im(ONE[0, 0], (1, 1, large, large), 1, 1),
        lambda: fastconv.fold(ONE[0], (large, large), 1),
        lambda: fastconv.max_pool2d_backward(ONE, ZERO, (1, 1, large, large)),
        lambda: fastconv.max_unpool2d(ONE, ZERO, 1, output_size=(large, large)),
        lambda: fastconv.max_unpool2d(ONE, ZERO, large),
        lambda: fastconv.avg_pool2d_backward(ONE, (1, 1, large, large), large),
        lambda: fastconv.conv2d(IMAGE, ONE, padding=large),
        lambda: fastconv.conv2d(IMAGE, ONE, padding=((0, large), (large, 0)), pad_mode="wrap"),
        lambda: fastconv.conv_transpose2d(IMAGE, ONE, stride=large),
        lambda: fastconv.conv_transpose2d(ONE, IMAGE, dilation=large),
        lambda: fastconv.conv_transpose2d(
            ONE, ONE, stride=large, output_padding=(large - 1, large - 1)
        ),
    ]
    for call in calls:
        with pytest.raises(TOO_LARGE, match=r"\d"):
            call()


@pytest.mark.parametrize("large", LARGE)
def test_no_images_of_a_size_too_large(large: int) -> None:
    """An empty batch needs no memory, but its sizes may exceed what an array allows."""
    calls: list[Callable[[], Any]] = [
        lambda: fastconv.max_pool2d_backward(ONE[:0], ZERO[:0], (0, 1, large, large)),
        lambda: fastconv.max_unpool2d(ONE[:0], ZERO[:0], 1, output_size=(large, large)),
        lambda: fastconv.avg_pool2d_backward(ONE[:0], (0, 1, large, large), large),
        lambda: fastconv.im2col(IMAGE[:0], 1, 1, pad=large),
        lambda: fastconv.unfold(IMAGE[:0], 1, padding=large),
        lambda: fastconv.conv2d(IMAGE[:0], ONE, padding=large),
        lambda: fastconv.conv_transpose2d(ONE[:0], IMAGE, dilation=large),
    ]
    for call in calls:
        result = outcome(call)
        if isinstance(result, str):
            assert re.search(r"\d", result)
        else:
            assert result.size == 0


@pytest.mark.parametrize("large", LARGE)
def test_windows_too_large(large: int) -> None:
    """A huge kernel does not fit; a huge stride makes one window, or is refused by name."""
    calls: list[Callable[[], Any]] = [
        lambda: fastconv.im2col(IMAGE, large, large),
        lambda: fastconv.unfold(IMAGE, 2, dilation=large),
        lambda: fastconv.max_pool2d(IMAGE, large),
        lambda: fastconv.max_pool2d(IMAGE, 2, dilation=large, ceil_mode=True),
        lambda: fastconv.avg_pool2d(IMAGE, (1, large)),
        lambda: fastconv.conv2d(IMAGE, IMAGE, dilation=large),
        lambda: fastconv.conv2d_backward(ONE, IMAGE, IMAGE, dilation=(large, 1)),
    ]
    for call in calls:
        refused(ValueError, f"kernel .*{large}|kernel .*dilation .*{large}", call)
    one_window: list[tuple[Callable[[], Any], Any]] = [
        (lambda: fastconv.im2col(IMAGE, 1, 1, large), [[0.0]]),
        (lambda: fastconv.max_pool2d(IMAGE, 2, large), [[[[3.0]]]]),
        (lambda: fastconv.max_pool2d(IMAGE, 2, large, ceil_mode=True), [[[[3.0]]]]),
        (lambda: fastconv.avg_pool2d(IMAGE, 2, large, ceil_mode=True), [[[[1.5]]]]),
        (lambda: fastconv.conv2d(IMAGE, IMAGE, stride=large), [[[[14.0]]]]),
        (lambda: fastconv.conv2d(IMAGE, ONE, stride=large, dilation=large), [[[[0.0]]]]),
        (lambda: fastconv.conv_transpose2d(ONE, IMAGE, stride=large), IMAGE.tolist()),
    ]
    for call, expected in one_window:
        result = outcome(call)
        if isinstance(result, str):
            assert f"stride ({large}, {large})" in result
            assert large > 2**32
        else:
            assert result.tolist() == expected


def test_broadcast_inputs_too_large() -> None:
    """The images have 2**60 pixels, but only four bytes of memory."""
    image = np.broadcast_to(np.float32(1), (1, 1, 2**30, 2**30))
    calls: list[Callable[[], Any]] = [
        lambda: fastconv.im2col(image, 3, 3),
        lambda: fastconv.unfold(image, 3),
        lambda: fastconv.max_pool2d(image, 3, 1),
        lambda: fastconv.avg_pool2d(image, 2, 1),
        lambda: fastconv.conv2d(image, ONE),
        lambda: fastconv.conv_transpose2d(image, ONE),
    ]
    for call in calls:
        with pytest.raises(TOO_LARGE, match=r"\d"):
            call()


# --------------------------------------------------------------------------------------- dtypes

OBJECTS: list[Any] = [object, [("value", "f8"), ("thing", "O")]]
if hasattr(np.dtypes, "StringDType"):
    OBJECTS.append(np.dtypes.StringDType())
NOT_NUMBERS: list[Any] = [
    *("g", "F", "D", "G", "M8[s]", "m8[s]", "S3", "U3", "V4", [("value", "f4")]),
    *OBJECTS,
]
REFUSED_DTYPES = {
    "im2col": [*OBJECTS, [], "V0"],
    "unfold": [*OBJECTS, [], "V0"],
    "col2im": ["?", *NOT_NUMBERS],
    "fold": ["?", *NOT_NUMBERS],
    "max_pool2d": ["?", *NOT_NUMBERS],
    "max_unpool2d": ["?", *NOT_NUMBERS],
    "max_pool2d_backward": ["?", "i4", "u1", *NOT_NUMBERS],
    "avg_pool2d": NOT_NUMBERS,
    "avg_pool2d_backward": NOT_NUMBERS,
    "conv2d": NOT_NUMBERS,
    "conv2d_backward": NOT_NUMBERS,
    "conv2d_backward-of-the-weight": NOT_NUMBERS,
    "conv_transpose2d": NOT_NUMBERS,
}


@each_operation
def test_dtypes(operation: Operation) -> None:
    """The message names the dtype, and which ones are accepted."""
    accepted = "Python objects" if operation.name in ("im2col", "unfold") else "float32"
    for which, argument in enumerate(operation.inputs(SHAPE)):
        for dtype in map(np.dtype, REFUSED_DTYPES[operation.name] if argument != "indices" else []):
            arrays = operation.arrays(SHAPE)
            arrays[which] = np.zeros(arrays[which].shape, dtype)
            message = f"(?=.*{argument}.*{re.escape(str(dtype))})(?=.*{accepted})"
            refused(TypeError, message, operation.call, arrays, SHAPE)


@pytest.mark.parametrize("dtype", ["f4", "f8", "?", "D", "O", "U1", "M8[s]"])
def test_dtypes_of_indices(dtype: str) -> None:
    indices = np.zeros(POOLED.shape, dtype)
    message = f"indices must .*integer.*{re.escape(str(indices.dtype))}"
    refused(TypeError, message, fastconv.max_pool2d_backward, POOLED, indices, SHAPE)
    refused(TypeError, message, fastconv.max_unpool2d, POOLED, indices, 2)


# ------------------------------------------------------------------------------------------ out=


@contextmanager
def untouched(array: Array) -> Iterator[None]:
    before = array.tobytes()
    yield
    assert array.tobytes() == before, "a rejected call wrote to out="


@each_with_out
def test_wrong_out(operation: Operation) -> None:
    arrays = operation.arrays(SHAPE)
    right = operation.expected(arrays, SHAPE)
    shape = right.shape
    read_only = np.full(shape, 7, "f4")
    read_only.flags.writeable = False
    wrong: list[tuple[Any, type[Exception], str]] = [
        (np.full((*shape[:-1], shape[-1] + 1), 7, "f4"), ValueError, "shape"),
        (np.full((*shape[:-1], shape[-1] - 1), 7, "f4"), ValueError, "shape"),
        (np.full((1, *shape), 7, "f4"), ValueError, "shape"),
        (np.full(right.size, 7, "f4"), ValueError, "shape"),
        (np.full(shape, 7, "f8"), TypeError, "float32.*float64"),
        (np.full(shape, 7, "i4"), TypeError, "float32.*int32"),
        (np.full(shape, 7, np.dtype("f4").newbyteorder("S")), TypeError, "dtype"),
        (np.full(shape, 7, "f4", order="F"), ValueError, "contiguous"),
        (np.full((*shape[:-1], 2 * shape[-1]), 7, "f4")[..., ::2], ValueError, "contiguous"),
        (np.full(shape, 7, "f4")[::-1], ValueError, "contiguous"),
        (np.broadcast_to(np.float32(7), shape), ValueError, "contiguous|writ"),
        (read_only, ValueError, "writ"),
        (LAYOUTS["unaligned"](np.full(shape, 7, "f4")), ValueError, "aligned"),
        (right.tolist(), TypeError, "list"),
        (bytearray(right.nbytes), TypeError, "bytearray"),
        ((), TypeError, "tuple"),
        (0, TypeError, "int"),
    ]
    for out, error, message in wrong:
        with untouched(np.asarray(out)):
            refused(error, f"out must.*({message})", operation.call, arrays, SHAPE, out=out)


OVERLAPS = [
    (name, which)
    for name, operation in OPERATIONS.items()
    if operation.out
    for which in range(len(operation.inputs(SHAPE)))
]


@pytest.mark.parametrize(("name", "which"), OVERLAPS)
def test_out_over_an_input(name: str, which: int) -> None:
    """out= must not share a single element with an input, but may lie right beside it."""
    operation = OPERATIONS[name]
    arrays = operation.arrays(SHAPE, dtype="f8")
    expected = operation.expected(arrays, SHAPE)
    source = arrays[which]
    buffer = np.full(source.size + 2 * expected.size, 7, "f8")
    start = expected.size
    arrays[which] = buffer[start : start + source.size].view(source.dtype).reshape(source.shape)
    arrays[which][...] = source
    for first in (start, start + 1, start - 1, 1, start + source.size - 1):
        out = buffer[first : first + expected.size].reshape(expected.shape)
        assert np.shares_memory(out, arrays[which])
        with untouched(buffer):
            message = "out must not overlap"
            refused(ValueError, message, operation.call, arrays, SHAPE, out=out)
    for first in (0, start + source.size):
        out = buffer[first : first + expected.size].reshape(expected.shape)
        assert operation.call(arrays, SHAPE, out=out) is out
        np.testing.assert_array_equal(out, expected)


@each_with_out
def test_rejected_calls_leave_out_alone(operation: Operation) -> None:
    """A rejected call changes no byte of out=, whatever the reason."""
    arrays = operation.arrays(SHAPE)
    out = np.full(operation.expected(arrays, SHAPE).shape, 7, "f4")
    for first in (
        arrays[0].astype(object),
        arrays[0].astype("f8"),
        arrays[0][..., None, None, None],
        arrays[0][..., :0],
        arrays[0][1:, :-1],
    ):
        with untouched(out), pytest.raises((TypeError, ValueError)):
            operation.call([first, *arrays[1:]], SHAPE, out=out)


# -------------------------------------------------------------------------------------- indices

BAD_INDICES = [
    *(("i1", -1), ("i2", -42), ("i4", 42), ("i4", -(2**31)), ("i8", 42), ("i8", 2**62)),
    *(("i8", -(2**63)), ("i8", 2**63 - 1), ("u1", 255), ("u2", 42), ("u4", 2**32 - 1)),
    *(("u8", 2**63), ("u8", 2**63 + 5), ("u8", 2**64 - 1), (">i8", -1), (">u4", 42)),
]


@pytest.mark.parametrize(("dtype", "bad"), BAD_INDICES)
def test_indices_out_of_range(level: str, threads: int, dtype: str, bad: int) -> None:
    """One bad index among many good ones prevents all writing."""
    for count in (2, 120):  # the second on several threads
        grad = np.ones((count, 24, 5, 6), "f4")
        shape = (count, 24, 6, 7)
        out = np.full(shape, 7, "f4")
        message = f"indices must .*42.*{bad}"
        for position in (0, grad.size // 2 + 3, grad.size - 1):
            indices = np.full(grad.shape, 41, dtype)
            indices.flat[position] = bad
            backward, unpool = fastconv.max_pool2d_backward, fastconv.max_unpool2d
            with untouched(out):
                refused(ValueError, message, backward, grad, indices, shape, out=out)
            refused(ValueError, message, backward, grad, indices, shape)
            refused(ValueError, message, unpool, grad, indices, 2, output_size=(6, 7))


def test_indices_beyond_every_integer_dtype() -> None:
    indices = np.full(POOLED.shape, 2**64, object).tolist()
    message = "indices must .*object"
    refused(TypeError, message, fastconv.max_pool2d_backward, POOLED, indices, SHAPE)


# -------------------------------------------------------------------------------------- runtime


@pytest.mark.parametrize("value", [0, -1, 1025, 2**40, 2**80, np.int64(0)])
def test_numbers_of_threads_out_of_range(value: int) -> None:
    before = fastconv.get_num_threads()
    refused(ValueError, rf"\bn must be.*{value}", fastconv.set_num_threads, value)
    refused(ValueError, rf"\bn must be.*{value}", fastconv.num_threads, value)
    assert fastconv.get_num_threads() == before


@pytest.mark.parametrize("value", [1.0, True, False, "2", None, (2,), np.float64(2)], ids=repr)
def test_numbers_of_threads_of_the_wrong_type(value: Any) -> None:
    before = fastconv.get_num_threads()
    refused(TypeError, rf"\bn must be.*{shown(value)}", fastconv.set_num_threads, value)
    refused(TypeError, rf"\bn must be.*{shown(value)}", fastconv.num_threads, value)
    assert fastconv.get_num_threads() == before


# ------------------------------------------------------------------------- networks and training

STRANGE: list[Any] = [None, object(), object, "x", b"x", -1, 1.5, float("nan"), [[1], [1, 2]], {}]
"""What few arguments may be, whatever they mean."""


def above_functions() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Return what is above the functions, by name, with arguments that are accepted."""
    x, t, flat = np.ones((4, 1, 8, 8), "f4"), np.array([0, 1, 0, 1]), np.ones((4, 6), "f4")
    net = models.Sequential((1, 8, 8), seed=0).convolution(2, 3).affine(2)
    rows, growing = (models.Sequential((6,), seed=0).affine(2) for _ in range(2))
    wide = models.Sequential((1, 8, 8), seed=0)
    trainer = training.Trainer(rows, flat, t, epochs=1, verbose=False)
    trainer.save_checkpoint("checkpoint")
    rows.save_params("params")
    Path("pickle").write_bytes(pickle.dumps({"b1": np.ones(3)}))
    digits = np.zeros((3, 5, 5), "u1")
    for part in ("train", "t10k"):
        header = b"\0\0\x08\x03" + np.array(digits.shape, ">u4").tobytes()
        Path(f"{part}-images").write_bytes(header + digits.tobytes())
        Path(f"{part}-labels").write_bytes(b"\0\0\x08\x01\0\0\0\x03\0\1\2")
    Path("cifar").mkdir(exist_ok=True)
    for name in ("train.bin", "test.bin"):
        Path("cifar", name).write_bytes(bytes(3074))
    Path("cifar", "coarse_label_names.txt").write_text("name\n" * 20)
    images = {"x": x, "t": t}
    small = {"input_dim": (1, 8, 8), "output_size": 3, "dtype": "f4", "seed": 0}
    hidden = {**small, "hidden_size": 4}
    convolutions = {f"conv_param_{i}": {"filter_num": 2} for i in range(1, 7)}
    state = {"fc.weight": np.ones((2, 6)), "fc.bias": np.ones(2)}
    whole = {"network": rows, "x_train": flat, "t_train": t, "x_test": flat, "t_test": t}
    settings = {"epochs": 1, "mini_batch_size": 2, "optimizer": "SGD", "optimizer_param": {}}
    more = {
        "evaluate_sample_num_per_epoch": 2,
        "schedule": "cosine",
        "checkpoint": "new",
        "augment": None,
    }
    calls: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (models.Sequential, {"input_dim": (4,), "layers": [], "dtype": "f4", "seed": 0}),
        (models.SimpleConvNet, {**hidden, "conv_param": {"filter_size": 3}, "weight_init_std": 1}),
        (models.DeepConvNet, {**hidden, **convolutions}),
        (models.LeNet, {**small, "input_dim": (1, 16, 16)}),
        (models.VGG, {**hidden, "depth": 11, "input_dim": (1, 32, 32)}),
        (models.load_state_dict, {"network": rows, "state_dict": state}),
        (models.read_pickle, {"path": "pickle"}),
        (wide.convolution, {"filters": 1, "size": 1, "stride": 1, "pad": 0, "groups": 1, "std": 1}),
        (growing.affine, {"units": 2, "std": 1.0}),
        (growing.batch_normalization, {"momentum": 0.9, "eps": 1e-5}),
        (growing.add, {"layers": layers.Relu()}),
        (net.predict, {"x": x}),
        (net.forward, {"x": x}),
        (net.predict_proba, {"x": x}),
        (net.activations, {"x": x}),
        (net.backward, {"dout": np.ones((4, 2), "f4")}),
        (net.loss, images),
        (net.gradient, images),
        (net.accuracy, {**images, "batch_size": 2}),
        (rows.save_params, {"file_name": "params"}),
        (rows.load_params, {"file_name": "params"}),
        (rows.params.__getitem__, {"name": "W1"}),
        (rows.params.__setitem__, {"name": "b1", "value": np.ones(2)}),
        (training.SGD, {"lr": 0.1}),
        (training.Momentum, {"lr": 0.1, "momentum": 0.9}),
        (training.AdaGrad, {"lr": 0.1}),
        (training.RMSprop, {"lr": 0.1, "decay_rate": 0.9}),
        (training.Adam, {"lr": 0.1, "beta1": 0.9, "beta2": 0.9}),
        (training.SGD().update, {"params": {"W": np.ones(2)}, "grads": {"W": np.ones(2)}}),
        (training.Trainer, {**whole, **settings, **more, "seed": 0}),
        (trainer.save_checkpoint, {"path": "checkpoint"}),
        (trainer.load_checkpoint, {"path": "checkpoint"}),
        (trainer.write_history, {"path": "history"}),
        (augment.RandomShift, {"pixels": 1, "pad_mode": "edge"}),
        (augment.RandomFlip, {"p": 0.5}),
        (augment.RandomCrop, {"size": 2, "padding": 1, "pad_mode": "constant", "fill": 1}),
        (augment.CenterCrop, {"size": 2}),
        (augment.Pad, {"padding": 1, "pad_mode": "constant", "fill": 1}),
        (augment.PadTo, {"size": 9, "pad_mode": "constant", "fill": 1}),
        (augment.Normalize, {"mean": 1, "std": 2}),
        (augment.Compose, {"transforms": augment.Pad(1)}),
        (augment.RandomFlip().__call__, {"images": x, "rng": 0}),
        (datasets.load_digits, {"test_fraction": 0.2, "seed": 0}),
        (datasets.load_mnist, {"folder": ".", "test_fraction": 0.2, "seed": 0}),
        (datasets.load_cifar100, {"path": "cifar", "labels": "coarse"}),
        (datasets.load_cifar_names, {"path": "cifar", "labels": "coarse"}),
    ]
    return {call.__qualname__: (call, arguments) for call, arguments in calls}


PICTURES: dict[str, dict[str, Any]] = {
    "show_filters": {"weights": np.eye(3)[None, None], "titles": ["one"], "channel": 0},
    "show_feature_maps": {"image": np.eye(8)[None], "layer": "Conv1"},
    "apply_filters": {"image": np.eye(8), "filters": {}, "pad_mode": "edge", "padding": 1},
    "activation_ascent": {"layer": "Conv1", "channel": 0, "steps": 1, "lr": 0.1, "seed": 0},
    "maximize_activation": {"layer": "Conv1", "channel": 0, "steps": 1, "lr": 0.1, "seed": 0},
    "class_activation_map": {"image": np.eye(8)[None], "class_index": 0, "layer": "Conv1"},
    "show_class_activation": {"image": np.eye(8)[None], "class_index": 0, "layer": "Conv1"},
    "show_network": {"depth": 0, "columns": 1},
    "show_images": {"images": np.eye(8)[None], "titles": ["one"]},
    "show_history": {"history": [{"epoch": 1, "train_loss": 1, "train_acc": 1, "test_acc": 1}]},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(call: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call with arguments by their names, also what is written ``*name``."""
    rest = dict(arguments)
    first = [
        rest.pop(name)
        for name, parameter in inspect.signature(call).parameters.items()
        if parameter.kind is parameter.VAR_POSITIONAL
    ]
    call(*first, **rest)


def refusals(
    call: Callable[..., Any], accepted: dict[str, Any]
) -> Iterator[tuple[str, Any, Exception]]:
    """Give each argument strange values in turn; yield it, the value, and why it was refused."""
    for argument in accepted:
        for value in STRANGE:
            try:
                run(call, {**accepted, argument: value})
            except OSError:
                pass  # There is no such file.
            except Exception as error:
                yield argument, value, error


def assert_named(call: Callable[..., Any], accepted: dict[str, Any]) -> None:
    """Check that some values are refused, by the name of the function or of the class, once."""
    instance = getattr(call, "__self__", None)
    name = call.__name__ if instance is None else type(instance).__name__
    run(call, accepted)
    found = list(refusals(call, accepted))
    assert found
    unnamed = []
    for argument, value, error in found:
        first, _, rest = str(error.args[0]).partition(": ")
        ours = isinstance(error, (TypeError, ValueError, KeyError)) and first == name
        if not ours or not rest or f"{first}: " in rest:
            unnamed.append((name, argument, value, error))
    assert unnamed == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("folder")
def test_messages_above_the_functions_begin_with_the_name() -> None:
    for call, arguments in above_functions().values():
        assert_named(call, arguments)


RAGGED: Any = [[1.0], [1.0, 2.0]]
NONE: Any = None
THREE: Any = 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.Flatten().forward(RAGGED), ValueError, "x cannot be made an array"),
        (lambda: layers.Flatten().forward(NONE), TypeError, "x must be .* got NoneType"),
        (
            lambda: layers.Dropout(rng=THREE),
            TypeError,
            "rng must be a numpy.random.Generator, got 3",
        ),
        (
            lambda: layers.BatchNormalization([1.0], [0.0], 0.9, RAGGED, [1.0]),
            ValueError,
            "running_mean cannot be made an array",
        ),
        (
            lambda: models.load_state_dict(models.Sequential((2,)).affine(2), {"a.weight": RAGGED}),
            ValueError,
            "the state_dict: a.weight cannot be made an array",
        ),
        (
            lambda: fastconv.im2col(np.ones((1, 1, 8, 8)), 3, 3, pad=10**8),
            MemoryError,
            "Unable to allocate .* shape",
        ),
    ],
)
def test_messages_of_what_numpy_refuses(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=rf"^\w+: {message}"):
        call()


def test_loss_refuses_a_gradient_that_is_no_number() -> None:
    last = layers.SoftmaxWithLoss()
    last.forward(np.ones((2, 3)), [0, 1])
    with pytest.raises(TypeError, match=r"^SoftmaxWithLoss: dout must be of .* got str$"):
        last.backward("x")  # type: ignore[arg-type]


def test_messages_describe_large_arguments() -> None:
    """A message stays readable when arguments are confused, so that a batch is given as a size."""
    batch = np.ones((2, 3, 8, 8), "f4")
    described = r"got an array of shape \(2, 3, 8, 8\) and dtype float32$"
    with pytest.raises(TypeError, match=rf"^plan_conv2d: input_shape must be .*{described}"):
        fastconv.plan_conv2d(batch, (4, 3, 3, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"^conv2d: stride must be .*{described}"):
        fastconv.conv2d(batch, batch, None, batch)
    with pytest.raises(ValueError, match=r"^Sequential: input_dim must be .*, got .{197}\.\.\.$"):
        models.Sequential([0] * 10_000)


def test_messages_of_inherited_methods_begin_with_the_name_of_the_class() -> None:
    class Mine(models.Sequential):
        pass

    lenet, mine = models.LeNet((1, 16, 16), 3), Mine((4,))
    for network, name in ((lenet, "LeNet"), (mine, "Mine")):
        with pytest.raises(ValueError, match=rf"^{name}: x must have shape"):
            network.predict(np.ones((1, 2)))
        with pytest.raises(TypeError, match=rf"^{name}: file_name must be a path, got 3"):
            network.save_params(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Mine: units must be a positive int, got 1.5"):
        mine.affine(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Mine: input_dim must be"):
        Mine(3)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_messages_of_pictures_begin_with_the_name(name: str) -> None:
    viz = pytest.importorskip("fastconv.viz", reason="matplotlib is not installed")
    call, arguments = getattr(viz, name), dict(PICTURES[name])
    if "network" in inspect.signature(call).parameters:
        net = models.Sequential((1, 8, 8), seed=0).convolution(2, 3).affine(2)
        arguments = {"network": net, **arguments}
    assert_named(call, arguments)


def test_pictures_are_all_tried() -> None:
    viz = pytest.importorskip("fastconv.viz", reason="matplotlib is not installed")
    assert set(viz.__all__) == {*PICTURES, "explore"}  # test_explore.py tries the widget.
