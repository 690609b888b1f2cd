"""Transforms of batches of images: what they draw, what they leave, what they refuse."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from helpers import LAYOUTS, Array, Shape
from hypothesis import given
from hypothesis import strategies as st

from fastconv import augment
from fastconv._window import PAD_MODES
from fastconv.augment import (
    CenterCrop,
    Compose,
    Normalize,
    Pad,
    PadTo,
    RandomCrop,
    RandomFlip,
    RandomShift,
)

DTYPES = ["u1", "i2", "i8", "?", "f2", "f4", "f8", ">f4", ">u2"]


def numbered(shape: Shape, dtype: Any = np.int64) -> Array:
    """Make images of which no two pixels are the same, and none is 0."""
    return np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)


SHAPES = st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))
SEEDS = st.integers(0, 2**32)

TRANSFORMS: list[Callable[..., Array]] = [
    RandomShift(2),
    RandomShift((0, 1), "wrap"),
    RandomFlip(),
    RandomFlip(1, vertical=True),
    RandomCrop(4),
    RandomCrop((6, 5), padding=1),
    RandomCrop(6, ((0, 0), (2, 1)), "reflect"),
    CenterCrop((3, 2)),
    CenterCrop((6, 7)),
    Pad(1),
    Pad(0),
    Pad(((1, 0), (0, 2)), "symmetric"),
    PadTo(9),
    PadTo((6, 7)),
    Compose(),
    Compose(Pad(1), RandomCrop(6), RandomFlip()),
]


# --- All of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_dtype_stays_and_places_do_not_depend_on_it(transform: Any, dtype: str) -> None:
    images = numbered((5, 3, 6, 7), dtype)
    before = images.copy()
    changed = transform(images, np.random.default_rng(1))
    assert changed.dtype == images.dtype
    assert changed.flags.c_contiguous
    assert changed.flags.writeable
    assert not np.may_share_memory(changed, images)
    np.testing.assert_array_equal(images, before)
    expected = transform(numbered((5, 3, 6, 7)), np.random.default_rng(1))
    np.testing.assert_array_equal(changed, expected.astype(dtype))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("transform", [*TRANSFORMS, Normalize(1, 2)], ids=repr)
def test_images_in_any_layout(transform: Any, layout: str) -> None:
    images = numbered((5, 3, 6, 7), "f4")
    expected = transform(images, 3)
    np.testing.assert_array_equal(transform(LAYOUTS[layout](images), 3), expected)


@pytest.mark.parametrize("transform", [*TRANSFORMS, Normalize(1, 2)], ids=repr)
def test_no_images(transform: Any) -> None:
    changed = transform(np.zeros((0, 3, 6, 7), np.float32), 1)
    assert changed.shape == (0, *transform(np.zeros((1, 3, 6, 7), np.float32), 1).shape[1:])


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_random_numbers_come_from_the_generator_alone(transform: Any) -> None:
    images = numbered((20, 1, 6, 7))
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    np.testing.assert_array_equal(transform(images, first), transform(images, second))
    assert first.bit_generator.state == second.bit_generator.state
    np.testing.assert_array_equal(transform(images, 5), transform(images, rng=5))
    other = copy.deepcopy(transform)
    np.testing.assert_array_equal(transform(images, 5), other(images, 5))
    other = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(transform(images, 5), other(images, 5))


@pytest.mark.parametrize(
    "transform", [RandomShift(2), RandomCrop(4), RandomFlip(), Compose(RandomFlip())], ids=repr
)
def test_calls_differ(transform: Any) -> None:
    images = numbered((50, 1, 6, 7))
    rng = np.random.default_rng(5)
    first = transform(images, rng)
    assert not np.array_equal(first, transform(images, rng))
    assert not np.array_equal(first, transform(images, 6))
    assert not np.array_equal(transform(images), transform(images))


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (RandomShift(2), "RandomShift(2)"),
        (RandomShift(np.int64(2)), "RandomShift(2)"),
        (RandomShift((1, 2), "edge"), "RandomShift((1, 2), pad_mode='edge')"),
        (RandomFlip(), "RandomFlip()"),
        (RandomFlip(0.25, vertical=True), "RandomFlip(0.25, vertical=True)"),
        (RandomCrop(32, 4), "RandomCrop(32, padding=4)"),
        (RandomCrop([3, 4], (1, 2)), "RandomCrop((3, 4), padding=(1, 2))"),
        (CenterCrop((3, 3)), "CenterCrop(3)"),
        (Pad(((1, 2), (3, 3)), fill=0.5), "Pad(((1, 2), (3, 3)), fill=0.5)"),
        (Pad(((1, 1), (1, 1))), "Pad(1)"),
        (PadTo(32), "PadTo(32)"),
        (Normalize([0.5], 0.25), "Normalize((0.5,), 0.25)"),
        (Normalize((1, 1), np.array([2.0, 3.0])), "Normalize((1.0, 1.0), (2.0, 3.0))"),
        (Compose(), "Compose()"),
        (Compose(Pad(1), RandomFlip()), "Compose(Pad(1), RandomFlip())"),
    ],
)
def test_repr(transform: Any, text: str) -> None:
    assert repr(transform) == text


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_repr_is_code(transform: Any) -> None:
    again = eval(repr(transform), vars(augment).copy())
    assert repr(again) == repr(transform)
    images = numbered((4, 2, 6, 7))
    np.testing.assert_array_equal(again(images, 1), transform(images, 1))


# --- Borders --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", PAD_MODES)
@pytest.mark.parametrize("padding", [0, 1, (2, 0), ((1, 2), (0, 3)), 9])
def test_pad(padding: Any, mode: Any) -> None:
    """A border may be wider than the image, also in the modes that show the image."""
    images = numbered((2, 3, 4, 5))
    sides = (
        [(n, n) if isinstance(n, int) else n for n in np.broadcast_to(padding, 2).tolist()]
        if np.ndim(padding) < 2
        else padding
    )
    expected = np.pad(images, ((0, 0), (0, 0), *sides), mode)
    np.testing.assert_array_equal(Pad(padding, mode)(images), expected)


@given(SHAPES, st.integers(0, 6), st.integers(0, 6))
def test_padding_to_a_size_and_back(shape: Shape, h: int, w: int) -> None:
    images = numbered(shape)
    size = shape[2] + h, shape[3] + w
    padded = PadTo(size)(images)
    assert padded.shape == (*shape[:2], *size)
    assert padded.sum() == images.sum()
    # Odd borders are wider behind, where the crop would be nearer to the front: they fit.
    np.testing.assert_array_equal(CenterCrop(shape[2:])(padded), images)


@pytest.mark.parametrize("size", [8, 28])
def test_digits_become_as_large_as_networks_want(size: int) -> None:
    digits = numbered((3, 1, size, size), "f4")
    padded = PadTo(32, fill=-1)(digits)
    border = (32 - size) // 2
    inner = np.s_[:, :, border : border + size, border : border + size]
    np.testing.assert_array_equal(padded[inner], digits)
    assert padded.shape == (3, 1, 32, 32)
    padded[inner] = -1
    assert (padded == -1).all()


def test_center_is_nearer_to_the_front() -> None:
    np.testing.assert_array_equal(CenterCrop((1, 2))(numbered((1, 1, 4, 5)))[0, 0], [[7, 8]])
    np.testing.assert_array_equal(PadTo((1, 4))(np.array([[[[5]]]]))[0, 0], [[0, 5, 0, 0]])


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("u1", 255), ("i2", -5), ("?", 1), ("f4", -0.5), ("f8", np.inf), ("f2", -2), (">i4", 3)],
)
def test_fill(dtype: str, fill: float) -> None:
    images = np.zeros((2, 1, 1, 1), dtype)
    for transform in (Pad(1, fill=fill), PadTo(3, fill=fill), RandomCrop(3, 1, fill=fill)):
        padded = transform(images, 0)
        assert padded.dtype == images.dtype
        assert (padded == np.array(fill, dtype)).sum() == 2 * 8
    assert (RandomShift(1, fill=fill)(np.zeros((50, 1, 1, 1), dtype), 0) == fill).any()


# --- Crops and shifts -----------------------------------------------------------------------


def places_of(parts: Array, images: Array) -> Iterator[tuple[int, int]]:
    """Find where each part lies in its image, in which no two windows are the same."""
    h, w = parts.shape[2:]
    for part, image in zip(parts, images, strict=True):
        [place] = [
            (top, left)
            for top in range(image.shape[1] - h + 1)
            for left in range(image.shape[2] - w + 1)
            if np.array_equal(image[:, top : top + h, left : left + w], part)
        ]
        yield place


@given(SHAPES, st.data(), SEEDS)
def test_crops_are_parts_of_their_images(shape: Shape, data: st.DataObject, seed: int) -> None:
    images = numbered(shape)
    size = data.draw(st.integers(1, shape[2])), data.draw(st.integers(1, shape[3]))
    crops = RandomCrop(size)(images, seed)
    assert crops.shape == (*shape[:2], *size)
    assert len(list(places_of(crops, images))) == len(images)


def test_crops_lie_everywhere_equally_often() -> None:
    images = numbered((3000, 1, 3, 4))
    places = list(places_of(RandomCrop((2, 2))(images, 0), images))
    tops, lefts = np.array(places).T
    counts = np.zeros((2, 3), int)
    np.add.at(counts, (tops, lefts), 1)
    assert counts.min() > 400  # Of 500 on average, with a standard deviation of 20.


@pytest.mark.parametrize("mode", PAD_MODES)
def test_crops_of_padded_images(mode: Any) -> None:
    images = numbered((40, 2, 4, 5))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 2), (3, 0)), mode)
    crops = RandomCrop((5, 6), ((1, 2), (3, 0)), mode)(images, 0)
    windows = {
        image[:, top : top + 5, left : left + 6].tobytes()
        for image in padded
        for top in (0, 1, 2)
        for left in (0, 1, 2)
    }
    assert {crop.tobytes() for crop in crops} <= windows
    assert crops.shape == (40, 2, 5, 6)
    # A crop as large as the padded image is the padded image.
    whole = RandomCrop((7, 8), ((1, 2), (3, 0)), mode)(images, 0)
    np.testing.assert_array_equal(whole, padded)


@given(SHAPES, st.integers(0, 3), st.integers(0, 3), SEEDS)
def test_shifts_keep_the_sum_within_a_margin(
    shape: Shape, down: int, right: int, seed: int
) -> None:
    """Zeros move in and zeros move out where the margin is as wide as the shift."""
    images = Pad((down, right))(numbered(shape))
    shifted = RandomShift((down, right))(images, seed)
    assert shifted.shape == images.shape
    np.testing.assert_array_equal(shifted.sum(axis=(2, 3)), images.sum(axis=(2, 3)))


@given(SHAPES, st.integers(0, 8), SEEDS)
def test_shifts_that_wrap_keep_all_pixels(shape: Shape, pixels: int, seed: int) -> None:
    images = numbered(shape)
    shifted = RandomShift(pixels, "wrap")(images, seed)
    for image, other in zip(images, shifted, strict=True):
        assert any(
            np.array_equal(np.roll(image, (y, x), (1, 2)), other)
            for y in range(shape[2])
            for x in range(shape[3])
        )


def test_shifts_go_everywhere_equally_often() -> None:
    images = np.zeros((4500, 1, 3, 5), np.uint8)
    images[:, :, 1, 2] = 1
    counts = RandomShift((1, 2))(images, 0).sum(axis=(0, 1), dtype=int)
    assert counts.sum() == 4500
    assert counts.min() > 225  # Of 300 on average, with a standard deviation of 17.
    assert (RandomShift((0, 1))(images, 0).sum(axis=(0, 1))[1] > 0).tolist() == [0, 1, 1, 1, 0]


# --- Flips ----------------------------------------------------------------------------------


@given(SHAPES, SEEDS, st.sampled_from([(True, False), (False, True), (True, True)]))
def test_a_flip_twice_is_the_identity(shape: Shape, seed: int, ways: tuple[bool, bool]) -> None:
    images = numbered(shape)
    flip = RandomFlip(0.5, *ways)
    np.testing.assert_array_equal(flip(flip(images, seed), seed), images)


@pytest.mark.parametrize(
    ("ways", "axes"), [((True, False), (3,)), ((False, True), (2,)), ((True, True), (2, 3))]
)
def test_flips(ways: tuple[bool, bool], axes: tuple[int, ...]) -> None:
    images = numbered((50, 2, 3, 4))
    np.testing.assert_array_equal(RandomFlip(1, *ways)(images, 0), np.flip(images, axes))
    np.testing.assert_array_equal(RandomFlip(0, *ways)(images, 0), images)


def test_each_image_is_flipped_or_not() -> None:
    images = numbered((1000, 1, 2, 3))
    flips = RandomFlip(0.3, vertical=True)(images, 0)
    known = [images, images[..., ::-1], images[:, :, ::-1], images[:, :, ::-1, ::-1]]
    same = np.array([(flips == way).all(axis=(1, 2, 3)) for way in known])
    np.testing.assert_array_equal(same.sum(axis=0), 1)
    expected = 1000 * np.array([0.49, 0.21, 0.21, 0.09])
    assert (abs(same.sum(axis=1) - expected) < 60).all()  # Standard deviations are up to 16.


# --- Values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalize(dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 2, (4, 2, 3, 5)).astype(dtype)
    result = Normalize((0.5, 1), (0.25, 3))(images)
    floats = {"f2": np.float16, "f8": np.float64}
    assert result.dtype == floats.get(dtype, np.float32)
    assert result.dtype.isnative
    mean, std = np.reshape((0.5, 1), (2, 1, 1)), np.reshape((0.25, 3), (2, 1, 1))
    tolerance = 1e-3 if dtype == "f2" else 1e-6
    np.testing.assert_allclose(result, (images.astype("f8") - mean) / std, rtol=tolerance)


def test_one_number_is_for_all_channels() -> None:
    images = numbered((2, 3, 2, 2), "f4")
    expected = Normalize((5, 5, 5), (2, 2, 2))(images)
    for normalize in (Normalize(5, 2), Normalize([5, 5, 5], 2), Normalize(5, np.full(3, 2))):
        np.testing.assert_array_equal(normalize(images), expected)


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", ">f4"])
@pytest.mark.parametrize("at_once", [1, 100, 1 << 20])
def test_measured_mean_and_deviation(
    monkeypatch: pytest.MonkeyPatch, dtype: str, at_once: int
) -> None:
    """Images are measured in parts, which changes nothing, far from zero either."""
    monkeypatch.setattr(augment, "MEASURED", at_once)
    images = np.random.default_rng(0).integers(100, 256, (23, 3, 4, 5)).astype(dtype)
    images[:, 1] = 200 + images[:, 1] % 3
    normalize = Normalize.of(images)
    exact = images.astype("f8")
    np.testing.assert_allclose(normalize.mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(normalize.std, exact.std(axis=(0, 2, 3)), rtol=1e-12)
    result = normalize(images)
    np.testing.assert_allclose(result.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(result.std(axis=(0, 2, 3)), 1, rtol=1e-4)


# --- Several --------------------------------------------------------------------------------


def test_compose() -> None:
    images = numbered((6, 1, 4, 4))
    seen = []

    def function(batch: Array, rng: np.random.Generator) -> Array:
        seen.append(rng)
        return -batch

    rng = np.random.default_rng(2)
    result = Compose(Pad(1), function, RandomCrop(3), RandomFlip())(images, rng)
    again = np.random.default_rng(2)
    expected = RandomFlip()(RandomCrop(3)(-Pad(1)(images), again), again)
    np.testing.assert_array_equal(result, expected)
    assert seen == [rng]
    nested = Compose(Pad(1), Compose(function, Compose(RandomCrop(3), RandomFlip())))
    np.testing.assert_array_equal(nested(images, 2), expected)


# --- Errors ---------------------------------------------------------------------------------

IMAGES = np.ones((2, 3, 4, 5), np.uint8)

BAD: dict[str, tuple[type[Exception], Callable[[], Any], str]] = {
    "negative pixels": (
        ValueError,
        lambda: RandomShift(-1),
        "RandomShift: pixels must be a non-negative int or a pair of them, got -1",
    ),
    "float pixels": (
        TypeError,
        lambda: RandomShift(1.0),  # type: ignore[arg-type]
        "RandomShift: pixels must be",
    ),
    "three pixels": (ValueError, lambda: RandomShift((1, 2, 3)), "RandomShift: pixels must be"),
    "pad mode": (ValueError, lambda: RandomShift(1, "zeros"), "RandomShift: pad_mode must be one"),
    "fill in another mode": (
        ValueError,
        lambda: RandomCrop(3, 1, "edge", 2),
        "RandomCrop: fill is for pad_mode \"constant\", got 2 and 'edge'",
    ),
    "text as fill": (
        TypeError,
        lambda: Pad(1, fill="0"),  # type: ignore[arg-type]
        "Pad: fill must be a number, got '0'",
    ),
    "no size": (ValueError, lambda: RandomCrop(0), "RandomCrop: size must be a positive int"),
    "padding in words": (
        TypeError,
        lambda: Pad("same"),
        "Pad: padding must be a non-negative int, a pair (vertical, horizontal), ((top, bottom), "
        "(left, right)), got 'same'",
    ),
    "negative padding": (ValueError, lambda: Pad(((0, 0), (0, -1))), "Pad: padding must be"),
    "probability": (
        ValueError,
        lambda: RandomFlip(1.5),
        "RandomFlip: p must be a number from 0 to 1, got 1.5",
    ),
    "no probability": (ValueError, lambda: RandomFlip(float("nan")), "RandomFlip: p must be"),
    "text as probability": (
        TypeError,
        lambda: RandomFlip("0.5"),  # type: ignore[arg-type]
        "RandomFlip: p must be",
    ),
    "no flip": (
        ValueError,
        lambda: RandomFlip(horizontal=False),
        "RandomFlip: horizontal or vertical must be true, or nothing is ever flipped",
    ),
    "no deviation": (
        ValueError,
        lambda: Normalize(0, (1, 0)),
        "Normalize: std must be positive, got (1, 0)",
    ),
    "infinite mean": (
        ValueError,
        lambda: Normalize(float("inf"), 1),
        "Normalize: mean must be a finite number or a sequence of them, got inf",
    ),
    "no means": (ValueError, lambda: Normalize([], 1), "Normalize: mean must be a finite number"),
    "text as mean": (
        TypeError,
        lambda: Normalize("0", 1),  # type: ignore[arg-type]
        "Normalize: mean must be",
    ),
    "two and three channels": (
        ValueError,
        lambda: Normalize((1, 2), (1, 2, 3)),
        "Normalize: mean and std must be of as many channels, got 2 and 3",
    ),
    "a list of transforms": (
        TypeError,
        lambda: Compose([Pad(1), Pad(2)]),  # type: ignore[arg-type]
        "Compose: transforms must be callables of images and rng, got [Pad(1), Pad(2)]; write "
        "Compose(*transforms)",
    ),
    "no transform": (
        TypeError,
        lambda: Compose(Pad(1), None),  # type: ignore[arg-type]
        "Compose: transforms must be callables of images and rng, got None",
    ),
    # Refused when they are called:
    "one image": (
        ValueError,
        lambda: Pad(1)(IMAGES[0]),
        "Pad: images must have 4 dimensions, got shape (3, 4, 5); images[None] is a batch of one",
    ),
    "no pixels": (ValueError, lambda: Pad(1)(IMAGES[:, :, :0]), "Pad: images must not be empty"),
    "text": (TypeError, lambda: RandomFlip()("image"), "RandomFlip: images must be of float16"),
    "complex": (TypeError, lambda: Compose()(IMAGES * 1j), "Compose: images must be of float16"),
    "rng": (TypeError, lambda: RandomFlip()(IMAGES, "1"), "RandomFlip: rng must be"),  # type: ignore
    "large crop": (
        ValueError,
        lambda: RandomCrop(6, ((0, 1), (0, 0)))(IMAGES),
        "RandomCrop: size (6, 6) is larger than the images, which are (5, 5) with their padding: "
        "padding makes them larger",
    ),
    "large center": (
        ValueError,
        lambda: CenterCrop((4, 6))(IMAGES),
        "CenterCrop: size (4, 6) is larger than the images, which are (4, 5)",
    ),
    "small size": (
        ValueError,
        lambda: PadTo(4)(IMAGES),
        "PadTo: size (4, 4) is smaller than the images, which are (4, 5): CenterCrop and",
    ),
    "fill beyond the dtype": (
        ValueError,
        lambda: Pad(1, fill=-1)(IMAGES),
        "Pad: fill must be an integer from 0 to 255 for images of dtype uint8, got -1.0",
    ),
    "fraction as fill": (ValueError, lambda: Pad(1, fill=0.5)(IMAGES), "Pad: fill must be an"),
    "no number as fill": (
        ValueError,
        lambda: Pad(1, fill=float("nan"))(IMAGES),
        "Pad: fill must be an",
    ),
    "huge padding": (
        ValueError,
        lambda: RandomShift(10**30)(IMAGES),
        "RandomShift: padded images (2000000000000000000000000000004, ",
    ),
    "other channels": (
        ValueError,
        lambda: Normalize(0, (1, 2))(IMAGES),
        "Normalize: std is of 2 channels, images have 3",
    ),
    "nothing to measure": (
        ValueError,
        lambda: Normalize.of(IMAGES[:0]),
        "Normalize: images must not be empty, got shape (0, 3, 4, 5)",
    ),
    "not finite": (
        ValueError,
        lambda: Normalize.of(np.array([[[[1, np.inf]]]])),
        "Normalize: images must be finite, they hold NaN or infinity",
    ),
    "constant": (
        ValueError,
        lambda: Normalize.of(np.arange(2)[None, :, None, None] * np.arange(3) + 7),
        "Normalize: images must differ in every channel, channel 0 is 7 everywhere",
    ),
    "within another": (
        ValueError,
        lambda: Compose(RandomFlip(), CenterCrop(9))(IMAGES),
        "Compose: size (9, 9) is larger than the images",
    ),
}


@pytest.mark.parametrize(("kind", "call", "message"), BAD.values(), ids=BAD.keys())
def test_errors(kind: type[Exception], call: Callable[[], Any], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        call()
    assert str(caught.value).startswith(message)
