"""Random convolutions whose pooled outputs are features: a transformer."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from fastconv._arguments import pair
from fastconv._arrays import Array
from fastconv._threads import Sharing
from fastconv._window import Pair
from fastconv.sklearn._images import (
    BLOCK,
    check_shape,
    computed_dtype,
    float_images,
    read_rows,
    shape_of_images,
)
from fastconv.sklearn._pooling import LARGE, POOLING, pooled_features
from fastconv.sklearn._random_filters import FilterGroup, draw_filters
from fastconv.sklearn._standardization import Standardization

__all__ = ["ConvFeatures"]


class ConvFeatures(TransformerMixin, BaseEstimator):
    """Features of images: what random convolutions give, pooled.

    Many random filters slide over an image, and each gives a few numbers: the largest value that it
    has met, and the proportion of its values that are positive. A linear model of these features
    is often as good as a trained convolutional network, and takes seconds. This is the idea of
    ROCKET [1]_, for images instead of time series.

    Parameters
    ----------
    n_kernels : int, default=256
        The number of random filters.
    kernel_size : int or sequence of int, default=(3, 5, 7)
        The sizes of filters, of which each has one.
    pooling : {"max", "ppv"} or sequence of them, default=("max", "ppv")
        What each filter gives: the maximum, the proportion of positive values, or both.
    image_shape : tuple of int, default=None
        The shape of the images that rows hold, ``(H, W)`` or ``(C, H, W)``, or ``(H, W, C)`` with
        `channels_last`. By default a square number of features is a grey square, and any other one
        is a row of pixels. Not needed for images.
    channels_last : bool, default=False
        Whether images, and `image_shape`, have their channels behind rows and columns.
    filters : ndarray of shape (F, C, KH, KW), or pair of it and of F biases, default=None
        Filters to use instead of random ones, for instance those that a network has learned,
        ``clf.network_.params["W1"]``.
    grid : "auto", int or pair of int, default="auto"
        The regions that values are pooled over: rows and columns of rectangles. ``1`` is the whole
        image, and ``"auto"`` quarters of images of 16 x 16 pixels or more.
    random_state : int, RandomState instance or None, default=None
        For the filters. Pass an int for the same ones in every fit.

    Attributes
    ----------
    filters_ : list of FilterGroup
        The filters: ``weight``, ``bias``, ``dilation`` and ``padding`` of those that have the same
        size, dilation and padding.
    image_shape_ : tuple of int
        The shape of the images, ``(C, H, W)``.
    n_features_in_ : int
        The number of an image's pixels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the pixels, where X is a frame that has names.

    See Also
    --------
    CNNClassifier : A convolutional network whose filters are learned.

    Notes
    -----
    Images are shifted and scaled so that each channel of those in `fit` has a mean of 0 and a
    variance of 1. Bytes are pixels from 0 to 1. Random filters have weights with a mean of 0,
    biases between -1 and 1, and dilations that are powers of two.

    References
    ----------
    .. [1] A. Dempster, F. Petitjean and G. I. Webb, "ROCKET: exceptionally fast and accurate time
       series classification using random convolutional kernels", Data Mining and Knowledge
       Discovery 34, 2020, https://arxiv.org/abs/1910.13051

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from fastconv.sklearn import ConvFeatures
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> model = make_pipeline(ConvFeatures(random_state=0), SVC(kernel="linear"))
    >>> model.fit(X_train, y_train).score(X_test, y_test) > 0.975
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_kernels": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": ["array-like", Interval(Integral, 1, None, closed="left")],
        "pooling": ["array-like", StrOptions(set(POOLING))],
        "image_shape": ["array-like", None],
        "channels_last": ["boolean"],
        "filters": ["array-like", None],
        "grid": [StrOptions({"auto"}), "array-like", Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_kernels: int = 256,
        kernel_size: Any = (3, 5, 7),
        pooling: Any = ("max", "ppv"),
        *,
        image_shape: Any = None,
        channels_last: bool = False,
        filters: Any = None,
        grid: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_kernels = n_kernels
        self.kernel_size = kernel_size
        self.pooling = pooling
        self.image_shape = image_shape
        self.channels_last = channels_last
        self.filters = filters
        self.grid = grid
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw filters for images like these.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        y : None
            Ignored.

        Returns
        -------
        ConvFeatures
            The transformer itself.
        """
        rows, _, shape = read_rows(self, X, reset=True)
        self.image_shape_ = shape_of_images(self, rows.shape[1], shape)
        self._dtype = computed_dtype(rows)
        images = float_images(self, rows, shape is None, self._dtype)
        self._standardization = Standardization.of(images, None)
        self._kinds = self._read_pooling()
        self._grid = self._read_grid()
        if self.filters is None:
            state = check_random_state(self.random_state)
            rng = np.random.default_rng(state.randint(np.iinfo(np.int32).max))
            sizes = [int(size) for size in np.atleast_1d(np.asarray(self.kernel_size))]
            if not sizes or min(sizes) < 1:
                raise ValueError(f"kernel_size must be positive, got {self.kernel_size!r}.")
            self.filters_ = draw_filters(self.n_kernels, sizes, self.image_shape_, rng)
        else:
            self.filters_ = [self._read_filters()]
        return self

    def transform(self, X: Any) -> Array:
        """Compute the features of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            For each filter the features of all regions, of the first kind of pooling, then of the
            next one.
        """
        check_is_fitted(self, "filters_")
        rows, _, shape = read_rows(self, X, reset=False)
        check_shape(self, shape)
        with Sharing():
            blocks = []
            for first in range(0, len(rows), BLOCK):
                part = rows[first : first + BLOCK]
                images = float_images(self, part, shape is None, self._dtype)
                blocks.append(self._features(self._standardization.apply(images)))
        return np.concatenate(blocks)

    def _features(self, images: Array) -> Array:
        """Compute a row of features for each of some images."""
        columns = []
        for group in self.filters_:
            pooled = pooled_features(images, group, self._kinds, self._grid)
            both = np.stack([pooled[kind] for kind in self._kinds], axis=2)
            columns.append(both.reshape(len(images), -1))
        return np.concatenate(columns, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the features.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Ignored, but checked against the names that are known.

        Returns
        -------
        ndarray of str objects
            ``"kernel7_max"``, or with several regions ``"kernel7_max_0_1"`` with their row and
            column.
        """
        check_is_fitted(self, "filters_")
        _check_feature_names_in(self, input_features)
        ends = [self._region_names(group) for group in self.filters_ for _ in group.weight]
        names = [
            f"kernel{number}_{kind}{end}"
            for number, regions in enumerate(ends)
            for kind in self._kinds
            for end in regions
        ]
        return np.array(names, dtype=object)

    # ---- parameters ----------------------------------------------------------------------------

    def _region_names(self, group: FilterGroup) -> list[str]:
        """Name the regions of a group's maps by their rows and columns."""
        rows, columns = (min(parts, s) for parts, s in zip(self._grid, self._map_size(group)))
        if rows * columns == 1:
            return [""]
        return [f"_{row}_{column}" for row in range(rows) for column in range(columns)]

    def _map_size(self, group: FilterGroup) -> Pair:
        """Return the size (H, W) of the maps that filters make."""
        _, H, W = self.image_shape_
        if group.padding == "same":
            return H, W
        (kernel_h, kernel_w), (d_h, d_w) = group.weight.shape[2:], group.dilation
        return H - d_h * (kernel_h - 1), W - d_w * (kernel_w - 1)

    def _read_pooling(self) -> list[str]:
        kinds = [self.pooling] if isinstance(self.pooling, str) else list(self.pooling)
        if not kinds or any(kind not in POOLING for kind in kinds) or len(set(kinds)) < len(kinds):
            raise ValueError(
                f"pooling must be 'max', 'ppv' or a sequence of them, got {self.pooling!r}."
            )
        return kinds

    def _read_grid(self) -> Pair:
        if not isinstance(self.grid, str):
            return pair(self.grid, "grid")
        return (2, 2) if min(self.image_shape_[1:]) >= LARGE else (1, 1)

    def _read_filters(self) -> FilterGroup:
        """Read the filters of the user's, and their biases if there are any."""
        weight, bias = self.filters, None
        if isinstance(weight, tuple) and len(weight) == 2:
            weight, bias = weight
        weight = np.asarray(weight, dtype=np.float64)
        bias = np.zeros(len(weight)) if bias is None else np.asarray(bias, dtype=np.float64)
        if weight.ndim != 4 or weight.shape[1] != self.image_shape_[0] or not weight.size:
            raise ValueError(
                f"filters must have shape (F, {self.image_shape_[0]}, KH, KW) for images "
                f"(C, H, W) of {self.image_shape_}, got {weight.shape}."
            )
        if bias.shape != weight.shape[:1] or not np.isfinite(weight).all():
            raise ValueError("filters must be finite, and their biases one number for each.")
        return FilterGroup(weight, bias, (1, 1), "same")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
