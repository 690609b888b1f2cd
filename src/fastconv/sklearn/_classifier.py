"""The classifier of images."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
)
from sklearn.utils.validation import check_is_fitted, column_or_1d

from fastconv._arrays import Array
from fastconv.layers._loss import softmax
from fastconv.sklearn._base import BaseCNN

__all__ = ["CNNClassifier"]


class CNNClassifier(ClassifierMixin, BaseCNN):
    """A convolutional network that classifies images.

    It is to images what `sklearn.neural_network.MLPClassifier` is to rows of features, and is used
    alike.

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
        Whether pixels are shifted and scaled so that each channel has a mean of 0
        and a variance of 1.
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
    class_weight : dict or "balanced", default=None
        The weights of the classes. "balanced" gives all classes the same sum of weights.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
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
        With early stopping, the score of the validation set after each epoch, its accuracy.
    best_validation_score_ : float or None
        With early stopping, the largest of them.

    See Also
    --------
    CNNRegressor : The same network for numbers.
    ConvFeatures : Random convolutions, which are not trained.

    Notes
    -----
    Bytes are pixels from 0 to 1. The network computes in float32 if that holds every pixel exactly,
    as it does for bytes in an array of any dtype, and otherwise in float64. Nothing is written to
    disk. Estimators that are fitted at the same time, in the threads of a pool, share the threads
    of this process.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from fastconv.sklearn import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = CNNClassifier(random_state=0).fit(X_train, y_train)
    >>> clf.score(X_test, y_test) > 0.97
    True
    """

    def __init__(
        self,
        filters: Any = (16, 32),
        kernel_size: Any = 3,
        pool_size: Any = 2,
        hidden_layer_sizes: Any = (64,),
        *,
        image_shape: Any = None,
        channels_last: bool = False,
        batch_normalization: bool = False,
        dropout: float = 0.0,
        network: Any = None,
        standardize: bool = True,
        solver: str = "adam",
        alpha: float = 1e-4,
        batch_size: int = 64,
        learning_rate_init: float = 1e-3,
        learning_rate: Any = "constant",
        max_iter: int = 20,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: Any = 10,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            pool_size=pool_size,
            hidden_layer_sizes=hidden_layer_sizes,
            image_shape=image_shape,
            channels_last=channels_last,
            batch_normalization=batch_normalization,
            dropout=dropout,
            network=network,
            standardize=standardize,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            learning_rate=learning_rate,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
        )
        self.class_weight = class_weight

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseCNN._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        y : array-like of shape (n_samples,)
            The labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

        Returns
        -------
        CNNClassifier
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on with the training, for one epoch of these images.

        The learning rate is constant. What standardises images is learned in the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        y : array-like of shape (n_samples,)
            The labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that there will be. The first call needs them.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

        Returns
        -------
        CNNClassifier
            The estimator itself.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit: which classes there "
                "are more of is not known. Pass the weights as a dict."
            )
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict_proba(self, X: Any) -> Array:
        """Compute how likely each class is.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Rows that sum to 1, in the order of `classes_`.
        """
        check_is_fitted(self, "network_")
        return softmax(self._scores(X))

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logarithms, in the order of `classes_`.
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):  # The logarithm of what rounds to 0 is -inf.
            return np.log(probabilities, out=probabilities)

    def predict(self, X: Any) -> Array:
        """Find the most likely class of each image.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels.
        """
        check_is_fitted(self, "network_")
        labels: Array = self.classes_[self._scores(X).argmax(axis=1)]
        return labels

    # ---- what the two kinds differ in ----------------------------------------------------------

    def _read_targets(self, y: Array, *, is_new: bool, incremental: bool) -> Array:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        found = np.unique(y)
        if is_new and not incremental:
            self.classes_ = found
        if len(self.classes_) < 2:
            raise _one_class(self.classes_)
        if not is_new and not incremental and not np.array_equal(found, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {found}"
            )
        if not np.isin(found, self.classes_).all():
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {found}."
            )
        return np.searchsorted(self.classes_, y)

    def _check_left(self, targets: Array) -> None:
        if len(left := np.unique(targets)) < 2:
            raise _one_class(self.classes_[left])

    def _weights_of_targets(self, targets: Array) -> Array | None:
        if self.class_weight is None:
            return None
        labels = self.classes_[targets]
        present = np.unique(labels)
        weights = np.ones(len(self.classes_))
        weights[np.searchsorted(self.classes_, present)] = compute_class_weight(
            self.class_weight, classes=present, y=labels
        )
        return weights[targets]

    def _outputs(self) -> int:
        return len(self.classes_)

    def _prepare_targets(self, targets: Array, weights: Array | None, *, is_new: bool) -> Array:
        return targets

    def _strata(self, targets: Array) -> Array | None:
        return targets

    def _score_of(self, scores: Array, targets: Array, weights: Array | None) -> float:
        return float(accuracy_score(targets, scores.argmax(axis=1), sample_weight=weights))


def _one_class(classes: Array) -> ValueError:
    return ValueError(
        "CNNClassifier needs samples of at least 2 classes in the data, but the data contains "
        f"only one class: {classes[0]!r}"
    )
