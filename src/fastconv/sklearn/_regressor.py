"""The regressor of images."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted, column_or_1d

from fastconv._arrays import Array
from fastconv.layers import MeanSquaredError
from fastconv.sklearn._base import BaseCNN
from fastconv.sklearn._standardization import Standardization

__all__ = ["CNNRegressor"]


class CNNRegressor(RegressorMixin, BaseCNN):
    """A convolutional network that estimates numbers from images.

    It is to images what `sklearn.neural_network.MLPRegressor` is to rows of features, and is used
    alike. It minimises half of the mean squared error.

    Parameters
    ----------
    filters : int or sequence of int, default=(16, 32)
        The number of filters of each convolution. Behind every one follow maximum pooling, unless
        its input has at most 8 pixels along both axes and it is not the last one, and
        rectification.
    kernel_size : int or pair of int, default=3
        The size of filters, vertical and horizontal.
    pool_size : int or pair of int, default=2
        The size of the pooling windows; 1 for none.
    hidden_layer_sizes : int or sequence of int, default=(64,)
        The number of units of each fully connected layer before the outputs.
    image_shape : tuple of int, default=None
        The shape of the images that rows hold, ``(H, W)`` or ``(C, H, W)``, or ``(H, W, C)`` with
        `channels_last`. By default a square number of features is a grey square, and any other one
        is a row of pixels. Not needed for images.
    channels_last : bool, default=False
        Whether images, and `image_shape`, have their channels behind rows and columns.
    batch_normalization : bool, default=False
        Whether convolutions and hidden layers are followed by batch normalisation. It takes some
        more time, and often gives better results.
    dropout : float, default=0.0
        The fraction of the hidden units that each step of the training leaves out.
    network : callable, default=None
        What to train instead of the network that the parameters above describe: a function of the
        shape ``(C, H, W)`` and the number of outputs that returns a new network of
        `fastconv.models`. If it has keywords ``seed`` and ``dtype``, as classes like
        `fastconv.models.LeNet` have, it is given a random generator and the dtype.
    standardize : bool, default=True
        Whether pixels and targets are shifted and scaled so that each channel and output has a mean
        of 0 and a variance of 1.
    solver : {"adam", "adamw", "sgd", "momentum", "adagrad", "rmsprop"}, default="adam"
        The update rule, one of `fastconv.training`.
    alpha : float, default=1e-4
        The strength of the L2 penalty: half of it times the squares of the weights is part of the
        loss that is minimised. With "adamw" it is decoupled weight decay.
    batch_size : int, default=64
        The number of images in a step.
    learning_rate_init : float, default=1e-3
        The learning rate at the beginning.
    learning_rate : {"constant", "cosine", "step"} or callable, default="constant"
        How the learning rate changes in `fit`, a schedule of `fastconv.training`.
    max_iter : int, default=20
        The number of epochs, if training does not stop before. To reach it is no failure, and
        brings no warning.
    shuffle : bool, default=True
        Whether every epoch has an order of its own.
    random_state : int, RandomState instance or None, default=None
        For initial weights, dropout, the order of images and the validation set. The same int gives
        the same network, bit for bit, on any number of threads.
    tol : float, default=1e-4
        The improvement that an epoch must bring.
    verbose : bool, default=False
        Whether to print the loss of every epoch.
    warm_start : bool, default=False
        Whether `fit` goes on with the network of the last call.
    early_stopping : bool, default=False
        Whether to set images aside, and to stop when their score does not improve any more. The
        network that had the best score is kept.
    validation_fraction : float, default=0.1
        The fraction of the images that early stopping sets aside.
    n_iter_no_change : int, default=10
        The number of epochs without improvement after which training stops.

    Attributes
    ----------
    n_outputs_ : int
        The number of an image's targets.
    network_ : Sequential or another network
        The trained network.
    image_shape_ : tuple of int
        The shape of the images, ``(C, H, W)``.
    n_features_in_ : int
        The number of an image's pixels.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        The names of the pixels, where X is a frame that has names.
    n_iter_ : int
        The number of epochs of the last fit.
    t_ : int
        The number of images that the network has learned from, counted in every epoch.
    loss_, best_loss_ : float
        The mean loss of the last epoch, without the penalty, and the smallest one; `best_loss_` is
        None with early stopping.
    loss_curve_ : list of float
        The mean loss of each epoch.
    validation_scores_ : list of float or None
        With early stopping, the score of the validation set after each epoch: R^2 of the targets as
        the network learns them.
    best_validation_score_ : float or None
        With early stopping, the largest of them.

    See Also
    --------
    CNNClassifier : The same network for classes.

    Notes
    -----
    Bytes are pixels from 0 to 1. The network computes in float32 if that holds every pixel exactly,
    as it does for bytes in an array of any dtype, and otherwise in float64. Nothing is written to
    disk. Estimators that are fitted at the same time, in the threads of a pool, share the threads
    of this process.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from fastconv.sklearn import CNNRegressor
    >>> X, _ = load_digits(return_X_y=True)
    >>> centre = (X.reshape(-1, 8, 8).sum(axis=2) @ np.arange(8)) / X.sum(axis=1)
    >>> reg = CNNRegressor(random_state=0).fit(X[:1300], centre[:1300])
    >>> reg.score(X[1300:], centre[1300:]) > 0.9
    True
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

        Returns
        -------
        CNNRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on with the training, for one epoch of these images.

        The learning rate is constant. What standardises images and targets is learned in the first
        call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

        Returns
        -------
        CNNRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Estimate the targets of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The estimates.
        """
        check_is_fitted(self, "network_")
        predicted = self._target_standardization.undo(self._scores(X))
        return predicted[:, 0] if self._is_single else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # ---- what the two kinds differ in ----------------------------------------------------------

    _y_checks: ClassVar[dict[str, bool]] = {"multi_output": True, "y_numeric": True}

    def _read_targets(self, y: Array, *, is_new: bool, incremental: bool) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        columns = y.reshape(len(y), -1).astype(np.float64)
        if is_new:
            self._is_single, self.n_outputs_ = y.ndim == 1, columns.shape[1]
        elif columns.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {columns.shape[1]} outputs, but {type(self).__name__} is expecting "
                f"{self.n_outputs_} outputs."
            )
        return columns

    def _outputs(self) -> int:
        return self.n_outputs_

    def _complete(self, network: Any) -> None:
        network.last_layer = MeanSquaredError()

    def _prepare_targets(self, targets: Array, weights: Array | None, *, is_new: bool) -> Array:
        if is_new:
            self._target_standardization = (
                Standardization.of(targets, weights)
                if self.standardize
                else Standardization.none(self.n_outputs_)
            )
        return self._target_standardization.apply(targets)

    def _score_of(self, scores: Array, targets: Array, weights: Array | None) -> float:
        return float(r2_score(targets, scores, sample_weight=weights))
