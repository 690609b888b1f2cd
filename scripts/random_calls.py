"""Random calls of the public functions, as Python expressions that `digests.py` evaluates.

The name of its function and its number alone determine a call. Most calls are tiny, and a third are
large enough for several threads and tiles. Some are refused, because of shapes, dtypes or keywords
that do not fit. Draw a new keyword after all others: then calls without it do not change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import reference
from helpers import EDGE_SIZES, LAYOUTS, PAD_MODES, Shape

FLOATS = ["float32"] * 5 + ["float64"] * 3 + ["float16"] * 2
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
MOVABLE = [*FLOATS, *INTEGERS, "bool", "complex64", "complex128", "datetime64[s]", "S3", "V5"]
REFUSED = ["complex64", "longdouble", "S3", "datetime64[s]", "bool"]
SIZES = [size for size in EDGE_SIZES if size <= 65]
LARGE_SIZES = [*SIZES[5:], 129, 300, 2100]
LARGEST = {"images": 1 << 19, "columns": 1 << 20, "convolved": 1 << 19, "products": 1 << 29}
"""Limits for the elements or multiplications of a call: a few MB, and mostly less than 0.1 s."""


ACTIVATIONS: list[Any] = [None, "relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid"]
ACTIVATIONS += ["sigmoid", "silu", ("clip", -1.0, 2.5), "tanh"]
"""The activations that convolutions are called with. The last one is refused."""


class Source(str):
    """A part of an expression, which the text of a call contains without quotes."""

    __repr__ = str.__str__


BAD: dict[str, list[Any]] = {
    "stride": [0, 1.5, True, (1, 2, 3), "same"],
    "dilation": [0, -1, 2.0, (1, 2, 3)],
    "pad": [-1, "full", (1, 2, 3), 2.0],
    "padding": [-1, "full", (1, 2, 3), ((1, 2), 3), 2.0],
    "pad_mode": ["mirror", 3],
    "groups": [0, 7, 1.0],
    "algorithm": ["fft", None],
    "output_size": [(1, 1), (3, 3, 3), 0],
    "output_padding": [9, -1],
    "out": [Source(f"np.zeros({text})") for text in ("3", "(2, 3), np.int8")] + [[0.0]],
}
"""Values of keywords that most functions refuse."""


class Draw(random.Random):
    """Draws the parts of one call."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.large = self.chance(0.3)

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def form(self, vertical: int, horizontal: int) -> Any:
        """Write a pair in one of the accepted forms."""
        both: list[Any] = [(vertical, horizontal), [vertical, horizontal]]
        return self.choice(both if vertical != horizontal else [*both, *[vertical] * 4])

    def padding(self, most: int) -> Any:
        a, b, c, d = (self.randint(0, most) for _ in range(4))
        return self.choice([a, b, (a, b), [c, d], ((a, b), (c, d)), "same", "valid"])

    def array(self, shape: Shape, dtypes: list[str], below: int | None = None) -> Source:
        """Write an array, sometimes with a dtype or shape that the function does not accept."""
        refused = dtypes is not MOVABLE and self.chance(0.01)
        dtype = self.choice(REFUSED if refused else dtypes)
        if self.chance(0.005):
            shape = self.choice([shape[1:], (1, *shape), (*shape[:-1], shape[-1] + 1)])
        parts = [repr(shape), repr(dtype), str(self.randrange(1000))]
        if self.chance(0.5):
            parts.append(f"layout={self.choice(sorted(LAYOUTS))!r}")
        if below is not None:
            parts.append(f"below={below * (1 + self.chance(0.03))}")
        elif dtype in (MOVABLE if dtypes is MOVABLE else INTEGERS) and self.chance(0.3):
            parts.append("fill='bits'")
        elif dtype.startswith("float") and self.chance(0.15):
            parts.append("fill='specials'")
        return Source(f"array({', '.join(parts)})")

    def call(self, function: str, *arguments: Any, can_out: bool = True, **keywords: Any) -> Source:
        """Write a call, sometimes with `out` or with a bad keyword."""
        known = sorted(BAD.keys() & {*keywords, *["out"] * can_out})
        spoiled = bool(known) and self.chance(0.06)
        if spoiled:
            name = self.choice(known)
            keywords[name] = self.choice(BAD[name])
        names = [Source(function)]
        if can_out and not spoiled and self.chance(0.25):
            names.insert(0, Source("into"))
        if "algorithm" in keywords and self.chance(0.4):
            names.insert(0, Source("high"))
        parts = [*map(repr, [*names[1:], *arguments]), *(f"{k}={v!r}" for k, v in keywords.items())]
        return Source(f"{names[0]}({', '.join(parts)})")

    def window(self, kind: str) -> tuple[Shape, dict[str, Any], Shape, Shape]:
        """Draw a kernel size, keywords of the window, and the sizes of an image and its output."""
        odd = self.randint(1, 7), self.randint(1, 4)
        kernel = self.choice([(3, 3), (1, 1), (2, 2), (5, 5), odd])
        keywords: dict[str, Any] = {}
        if kind == "dense":  # Winograd's algorithm supports only this window.
            kernel = (3, 3)
        elif self.chance(0.5):
            keywords["stride"] = self.form(self.randint(1, 3), self.randint(1, 3))
        if kind == "any" and self.chance(0.3):
            keywords["dilation"] = self.form(self.randint(1, 3), self.randint(1, 3))
        if self.chance(0.7):
            half = min(kernel) // 2 + self.chance(0.05)  # Pooling accepts no more than half.
            keywords["padding"] = self.padding(half if kind == "pooling" else self.choice([3, 7]))
        if self.chance(0.3):
            mode = {"pad_mode": self.choice(PAD_MODES)}
            keywords |= {"ceil_mode": True} if kind == "pooling" else mode
        steps = reference.pair(keywords.get("dilation", 1))
        more = [0, 1, 2, 3, 5, 8, 13]
        if self.large:  # Winograd's larger tiles are for large images only.
            more = [29, 60] if kind == "dense" else [4, 11, 13, 29, 60]
        image = tuple(d * (k - 1) + 1 + self.choice(more) for k, d in zip(kernel, steps))
        if self.chance(0.05):
            image = self.randint(1, 4), self.randint(1, 4)
        stride = {"stride": kernel} if kind == "pooling" else {}
        try:
            axes = reference.axes(image[0], image[1], kernel, **stride | keywords)
        except ValueError:  # The window does not fit, and the function must refuse it.
            return kernel, keywords, image, (1, 1)
        return kernel, keywords, image, tuple(len(axis.taps) for axis in axes)

    def images(self, most: float, can_lack_batch: bool = True) -> Shape:
        """Draw the batch size, if any, and the number of channels, for at most `most` planes."""
        batch = self.choice([1, 2, 3, 8] if self.large else [1, 1, 2, 3, 0])
        channels = self.choice(LARGE_SIZES if self.large else [1, 2, 3, 4, 5, 8, 17])
        channels = max(1, min(channels, int(most / max(1, batch))))
        return (channels,) if can_lack_batch and self.chance(0.2) else (batch, channels)


def columns(draw: Draw, function: str) -> Source:
    kernel, keywords, image, out = draw.window("any")
    textbook = function in ("im2col", "col2im")
    if textbook and "padding" in keywords:
        keywords["pad"] = keywords.pop("padding")
    taps, windows = prod(kernel), prod(out)
    most = min(LARGEST["columns"] / (taps * windows), LARGEST["images"] / prod(image))
    lead = draw.images(most, can_lack_batch=not textbook)
    size = kernel if textbook else (draw.form(*kernel),)
    if function in ("im2col", "unfold"):
        return draw.call(function, draw.array((*lead, *image), MOVABLE), *size, **keywords)
    shape: Shape = (*lead[:-1], lead[-1] * taps, windows)
    if textbook:
        shape = prod(lead[:-1]) * windows, lead[-1] * taps
    whole = (*lead, *image) if textbook else draw.form(*image)
    return draw.call(function, draw.array(shape, FLOATS * 2 + INTEGERS), whole, *size, **keywords)


def pooling(draw: Draw, function: str) -> Source:
    kernel, keywords, image, out = draw.window("pooling")
    lead = draw.images(LARGEST["images"] / prod(image))
    shape, pooled, size = (*lead, *image), (*lead, *out), draw.form(*kernel)
    indices = draw.array(pooled, INTEGERS[4:], below=prod(image))
    numbers = FLOATS * 2 + INTEGERS
    if function == "max_pool2d":
        keywords["return_indices"] = draw.chance(0.5)
        if draw.chance(0.2):  # This changes the size of the output, which this call does not use.
            keywords["dilation"] = draw.form(draw.randint(1, 2), draw.randint(1, 2))
        return draw.call(function, draw.array(shape, numbers), size, **keywords)
    if function == "max_pool2d_backward":
        return draw.call(function, draw.array(pooled, FLOATS), indices, shape)
    if function == "max_unpool2d":
        keywords.pop("ceil_mode", None)
        values = draw.array(pooled, numbers)
        keywords["output_size"] = image
        return draw.call(function, values, indices, size, can_out=False, **keywords)
    keywords["count_include_pad"] = draw.chance(0.5)
    if function == "avg_pool2d":
        return draw.call(function, draw.array(shape, [*numbers, "bool"]), size, **keywords)
    return draw.call(function, draw.array(pooled, [*numbers, "bool"]), shape, size, **keywords)


def convolution(draw: Draw, function: str) -> Source:
    is_packed, function = function.startswith("packed "), function.removeprefix("packed ")
    kernel, keywords, image, out = draw.window(draw.choice(["any", "dense"]))
    *batch, channels = draw.images(LARGEST["convolved"] / prod(image))
    filters = draw.choice(LARGE_SIZES[:-1] if draw.large else [1, 2, 3, 5, 8, 17])
    groups = 1
    if draw.chance(0.35):  # The convolution is depthwise, or has a few groups.
        keywords["groups"] = groups = channels if draw.chance(0.5) else draw.randint(1, 3)
    each = max(1, channels // groups)
    work = prod(batch) * groups * each * prod(kernel) * prod(out)
    outputs = max(1, min(filters // groups, int(LARGEST["products"] / max(1, work))))
    channels, filters = groups * each, groups * outputs
    fits = kernel == (3, 3) and not {"stride", "dilation"} & keywords.keys()
    choices = ["auto", "direct", "winograd"] if fits or draw.chance(0.05) else ["auto", "direct"]
    keywords["algorithm"] = draw.choice(choices)
    dtypes = [draw.choice(FLOATS if draw.chance(0.85) else ["bool", *INTEGERS])]
    others = dtypes if draw.chance(0.85) else FLOATS
    weight = filters, each, *kernel
    shape, pixels = (*batch, channels, *image), (*batch, filters, *out)
    if function == "plan":
        shape = max(1, shape[0]), *shape[1:]  # Some versions crash on a plan for no images.
        return draw.call(function, shape, weight, can_out=False, **keywords, dtype=dtypes[0])
    if function == "conv2d_backward":
        if draw.chance(0.3):
            keywords["output_mask"] = tuple(draw.chance(0.5) for _ in range(3))
        arrays = draw.array(pixels, dtypes), draw.array(shape, dtypes), draw.array(weight, others)
        return draw.call(function, *arrays, can_out=False, **keywords)
    if function == "conv_transpose2d":
        keywords.pop("pad_mode", None)
        if keywords.get("padding") == "same" and draw.chance(0.9):
            keywords["padding"] = 1
        if draw.chance(0.3):
            keywords["output_padding"] = max(reference.pair(keywords.get("stride", 1))) - 1
        shape, filters = pixels, channels
    if draw.chance(0.6):
        keywords["bias"] = draw.array((filters,), others)
    if function == "finished":
        function = "conv2d"
        keywords["activation"] = draw.choice(ACTIVATIONS)
        if draw.chance(0.7):
            keywords["residual"] = draw.array(pixels, others if draw.chance(0.9) else REFUSED)
    names = ["packed", Source(function)] if is_packed else [function]
    return draw.call(*names, draw.array(shape, dtypes), draw.array(weight, others), **keywords)


def signals(draw: Draw, function: str) -> Source:
    """Draw a call of one dimension, some with what only the functions of two accept."""
    kernel, size = draw.randint(1, 12), draw.choice(LARGE_SIZES if draw.large else SIZES[3:])
    keywords: dict[str, Any] = {}
    if draw.chance(0.6):
        keywords["stride"] = draw.choice([1, 2, 3, (2,), [5]] if draw.chance(0.97) else [(1, 2)])
    if draw.chance(0.7):
        ends = draw.randint(0, kernel // 2), draw.randint(0, kernel // 2)
        keywords["padding"] = draw.choice([ends[0], ends, list(ends), (ends,), "same", "valid"])
    n, c = draw.randint(1, 3), draw.choice([1, 2, 3, 8, 17])
    if function.startswith(("max", "avg")):
        window = {"ceil_mode": draw.chance(0.3), **keywords}
        if function == "max_pool1d":
            window["return_indices"] = draw.chance(0.5)
        return draw.call(function, draw.array((n, c, size), FLOATS), kernel, **window)
    filters, dtypes = draw.choice([1, 3, 8, 33]), [draw.choice(FLOATS)]
    if draw.chance(0.3):
        keywords["dilation"] = draw.randint(2, 8)
    x, bias = draw.array((n, c, size), dtypes), draw.array((filters,), dtypes)
    if function == "conv1d":
        keywords["pad_mode"] = draw.choice(PAD_MODES)
        weight = draw.array((filters, c, kernel), dtypes)
        if draw.chance(0.3):
            keywords["activation"] = draw.choice(ACTIVATIONS)
    else:
        weight = draw.array((c, filters, kernel), dtypes)
    return draw.call(function, x, weight, bias, **keywords)


def product(draw: Draw, function: str) -> Source:
    few = draw.chance(0.4)
    sizes = LARGE_SIZES[:-1] if draw.large else [*SIZES[:12], 0]
    rows, terms, width = draw.randint(1, 6) if few else draw.choice(sizes), *draw.sample(sizes, 2)
    dtypes = [draw.choice(FLOATS if draw.chance(0.85) else ["bool", *INTEGERS])]
    others = dtypes if draw.chance(0.85) else FLOATS
    bias = draw.array((width,), others) if draw.chance(0.5) else None
    a, b = draw.array((rows, terms), dtypes), draw.array((terms, width), others)
    return draw.call(function, a, b, bias=bias)


def activation(draw: Draw, function: str) -> Source:
    most, axes = (60, 3) if draw.large else (8, 4)
    shape = tuple(draw.randint(1, most) for _ in range(draw.randint(1, axes)))
    values = draw.array(shape, FLOATS)
    if function == "relu":
        return draw.call(function, values, return_mask=draw.chance(0.5))
    return draw.call(function, values, draw.array(shape, ["bool"]))


def layer(draw: Draw, name: str) -> Source:
    n, c = draw.randint(1, 5), draw.choice(SIZES if draw.large else SIZES[:8])
    image = draw.randint(1, 9), draw.randint(1, 9)
    dtypes = [draw.choice([*FLOATS, "int32"])]
    images = name in ("LocalResponseNormalization", "GlobalAveragePooling") or draw.chance(0.5)
    shape = (n, c, *image) if images and name not in ("Affine", "SoftmaxWithLoss") else (n, c)
    out: Shape = shape
    settings: list[Any] = []
    flags, labels = [], []
    if name in ("Dropout", "BatchNormalization"):
        flags = [f"train_flg={draw.chance(0.7)}"]
    if name == "BatchNormalization":
        settings = [draw.array((c,), FLOATS) for _ in "gb"]
    elif name == "Dropout":
        inverted = ", inverted=True" * draw.chance(0.3)
        settings = [Source(f"0.3, rng=np.random.default_rng(5){inverted}")]
    elif name == "LocalResponseNormalization":
        settings = [draw.randint(1, 6), draw.choice([1e-4, 0.5]), draw.choice([0.5, 0.75])]
    elif name == "Affine":
        out = n, draw.choice(SIZES[:9])
        row = draw.array(out[1:], FLOATS)
        settings = [draw.array((c, out[1]), FLOATS), draw.choice([0.5, None, row, row])]
    elif name == "SoftmaxWithLoss":
        labels = [draw.array((n,), INTEGERS, below=c)]
    elif name == "GlobalAveragePooling":
        out = n, c
    made = Source(f"{name}({', '.join(map(repr, settings))})")
    inputs = draw.array(shape, dtypes), *labels
    grads = [] if labels else [draw.array(out, dtypes)]
    return Source(f"passes({', '.join([*map(repr, [made, inputs, *grads]), *flags])})")


def update(draw: Draw, name: str) -> Source:
    most = 40 if draw.large else 8
    shape = tuple(draw.randint(1, most) for _ in range(draw.randint(0, 4)))
    settings = ["0.1"]
    if name == "Momentum":
        settings.append(f"nesterov={draw.chance(0.5)}")
    if draw.chance(0.5):
        settings.append(f"weight_decay=0.1, decay_biases={draw.chance(0.5)}")
    if draw.chance(0.5):
        settings.append(draw.choice(["clip_norm=1.0", "clip_value=0.5"]))
    made = Source(f"{name}({', '.join(settings)})")
    arrays = draw.array(shape, FLOATS), draw.array(shape, FLOATS), draw.array(shape, FLOATS)
    return Source(f"updated({', '.join(map(repr, [made, *arrays]))})")


MAKERS: dict[Callable[[Draw, str], Source], dict[str, int]] = {
    columns: {"im2col": 150, "col2im": 110, "unfold": 120, "fold": 110},
    pooling: {
        **{"max_pool2d": 150, "max_pool2d_backward": 80, "max_unpool2d": 80},
        **{"avg_pool2d": 100, "avg_pool2d_backward": 80},
    },
    convolution: {
        **{"conv2d": 360, "conv2d_backward": 200, "conv_transpose2d": 160, "plan": 60},
        "finished": 100,  # conv2d with a residual or an activation
        **{"packed finished": 60, "packed conv_transpose2d": 40},  # with a `PackedWeight`
    },
    signals: {"conv1d": 60, "conv_transpose1d": 30, "max_pool1d": 30, "avg_pool1d": 30},
    product: {"matmul": 200},
    activation: {"relu": 40, "relu_backward": 30},
    layer: {
        **{"BatchNormalization": 40, "LocalResponseNormalization": 20, "Dropout": 20},
        **{"SoftmaxWithLoss": 20, "Sigmoid": 15, "Affine": 30, "GlobalAveragePooling": 15},
    },
    update: {"SGD": 15, "Momentum": 20, "AdaGrad": 15, "RMSprop": 15, "Adam": 20, "AdamW": 15},
}
"""The number of calls of each function, by the function that draws them."""


def corpus() -> Iterator[str]:
    """Draw all calls; the calls of one function do not depend on the number of any others."""
    for make, functions in MAKERS.items():
        for name, count in functions.items():
            yield from (str(make(Draw(f"{name} {i}"), name)) for i in range(count))
