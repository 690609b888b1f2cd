"""What the classifier and the regressor share: parameters, training, and computing in blocks.

The training itself is that of `fastconv.training`. Here are scikit-learn's conventions around it.
"""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fastconv._arrays import Array
from fastconv._threads import Sharing
from fastconv.sklearn._architecture import described_network, network_of
from fastconv.sklearn._images import (
    BLOCK,
    check_shape,
    computed_dtype,
    float_images,
    read_rows,
    shape_of_images,
)
from fastconv.sklearn._standardization import Standardization
from fastconv.sklearn._stopping import LossStopping, ValidationStopping
from fastconv.training import Trainer
from fastconv.training._optimizers import OPTIMIZERS
from fastconv.training._schedules import SCHEDULES

__all__ = ["BaseCNN"]

Data: TypeAlias = tuple[Array, Array, Array | None]
"""Images, their targets and, unless all count alike, their weights."""

FROM_ONE = Interval(Integral, 1, None, closed="left")


class BaseCNN(BaseEstimator, metaclass=ABCMeta):
    """A convolutional network with scikit-learn's methods."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "filters": ["array-like", FROM_ONE],
        "kernel_size": ["array-like", FROM_ONE],
        "pool_size": ["array-like", FROM_ONE],
        "hidden_layer_sizes": ["array-like", FROM_ONE],
        "image_shape": ["array-like", None],
        "channels_last": ["boolean"],
        "batch_normalization": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "network": [callable, None],
        "standardize": ["boolean"],
        "solver": [StrOptions(set(OPTIMIZERS))],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [FROM_ONE],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions(set(SCHEDULES)), callable],
        "max_iter": [FROM_ONE],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [FROM_ONE, Options(Real, {np.inf})],
    }

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
    ) -> None:
        self.filters = filters
        self.kernel_size = kernel_size
        self.pool_size = pool_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.channels_last = channels_last
        self.batch_normalization = batch_normalization
        self.dropout = dropout
        self.network = network
        self.standardize = standardize
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change

    # ---- what the two kinds differ in ----------------------------------------------------------

    @abstractmethod
    def _read_targets(self, y: Array, *, is_new: bool, incremental: bool) -> Array:
        """Validate y, learn from it what is new, and return it as an array of numbers."""

    @abstractmethod
    def _outputs(self) -> int:
        """Return how many numbers the network gives for an image."""

    @abstractmethod
    def _prepare_targets(self, targets: Array, weights: Array | None, *, is_new: bool) -> Array:
        """Return the targets as the network learns them."""

    @abstractmethod
    def _score_of(self, scores: Array, targets: Array, weights: Array | None) -> float:
        """Return the score of a network's outputs, the larger the better."""

    def _weights_of_targets(self, targets: Array) -> Array | None:
        """Return weights that follow from the targets alone, if there are any."""
        return None

    def _complete(self, network: Any) -> None:
        """Give a new network what it lacks."""

    # ---- fitting -------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Self:
        """Train a new network, or go on with the one that there is."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        is_new = not hasattr(self, "network_") or not (self.warm_start or incremental)
        with Sharing():
            images, targets, weights = self._read(
                X, y, sample_weight, is_new=is_new, incremental=incremental
            )
            if not incremental or is_new:
                state = check_random_state(self.random_state)
                self._rng = np.random.default_rng(state.randint(np.iinfo(np.int32).max))
            if is_new:
                self._standardization = self._measure(images, weights)
            images = self._standardization.apply(images)
            targets = self._prepare_targets(targets, weights, is_new=is_new)
            if is_new:
                self._begin()
            if not incremental or is_new:
                self._optimizer = self._new_optimizer()
            self._train((images, targets, weights), incremental=incremental)
        return self

    def _read(self, X: Any, y: Any, sample_weight: Any, *, is_new: bool, incremental: bool) -> Data:
        """Validate what is learned from, and leave out images that do not count."""
        rows, y, shape = read_rows(self, X, y, reset=is_new, **self._y_checks)
        if is_new:
            self.image_shape_ = shape_of_images(self, rows.shape[1], shape)
        else:
            check_shape(self, shape)
        targets = self._read_targets(y, is_new=is_new, incremental=incremental)
        weights = self._weights(rows, sample_weight, targets)
        if weights is not None and not (counts := weights > 0).all():
            rows, targets, weights = rows[counts], targets[counts], weights[counts]
            if not len(rows):
                raise ValueError("sample_weight must not be 0 for all samples.")
            if not incremental:
                self._check_left(targets)
        if is_new:
            self._dtype = computed_dtype(rows)
        return float_images(self, rows, shape is None, self._dtype), targets, weights

    _y_checks: ClassVar[dict[str, bool]] = {}
    """The checks of y that `sklearn.utils.validation.validate_data` makes."""

    def _check_left(self, targets: Array) -> None:
        """Raise a ValueError if nothing can be learned from the samples that count."""

    def _weights(self, rows: Array, sample_weight: Any, targets: Array) -> Array | None:
        """Multiply the weights of samples and of their targets."""
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, rows, dtype=np.float64, ensure_non_negative=True
            )
        of_targets = self._weights_of_targets(targets)
        if of_targets is None or sample_weight is None:
            return of_targets if sample_weight is None else sample_weight
        weights: Array = sample_weight * of_targets
        return weights

    def _measure(self, images: Array, weights: Array | None) -> Standardization:
        if self.standardize:
            return Standardization.of(images, weights)
        return Standardization.none(images.shape[1])

    def _begin(self) -> None:
        """Make a new network, and forget the training of another one."""
        if self.network is None:
            self.network_ = described_network(self, self._outputs(), self._dtype, self._rng)
        else:
            self.network_ = network_of(
                self.network, self.image_shape_, self._outputs(), self._dtype, self._rng
            )
        self._complete(self.network_)
        self.loss_curve_: list[float] = []
        self.t_ = 0
        self._stopping: LossStopping | None = None

    def _new_optimizer(self) -> Any:
        rule = OPTIMIZERS[self.solver]
        return rule(self.learning_rate_init, weight_decay=self.alpha, decay_biases=False)

    def _train(self, data: Data, *, incremental: bool) -> None:
        """Train for an epoch, or for as many as it takes."""
        (images, targets, weights), validation = self._split(data)
        trainer = Trainer(
            self.network_,
            images,
            targets,
            epochs=self.max_iter,
            mini_batch_size=min(self.batch_size, len(images)),
            optimizer=self._optimizer,
            schedule="constant" if incremental else self.learning_rate,
            evaluate_sample_num_per_epoch=0,
            sample_weight=weights,
            shuffle=self.shuffle,
            seed=self._rng,
            verbose=False,
        )
        stopping = self._stopping_rule(validation, incremental=incremental)
        self.n_iter_ = 0
        try:
            for _ in range(1 if incremental else self.max_iter):
                if not self._goes_on(trainer, stopping):
                    break
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except FloatingPointError as error:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            ) from error
        self._finish(stopping)

    def _goes_on(self, trainer: Trainer, stopping: LossStopping | ValidationStopping) -> bool:
        """Train for an epoch, and tell whether another one may follow."""
        self.loss_ = trainer.train_epoch().train_loss
        self.n_iter_ += 1
        self.t_ += len(trainer.x_train)
        self.loss_curve_.append(self.loss_)
        stops = stopping.stops(self.loss_)
        if self.verbose:
            print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
            if isinstance(stopping, ValidationStopping):
                print(f"Validation score: {stopping.scores[-1]:f}")
            if stops:
                print(stopping.reason % (self.tol, self.n_iter_no_change), "Stopping.")
        return not stops

    def _split(self, data: Data) -> tuple[Data, Data | None]:
        """Set images aside, if it is their score that says when to stop."""
        if not self.early_stopping:
            return data, None
        images, targets, weights = data
        kept, aside = train_test_split(
            np.arange(len(images)),
            test_size=self.validation_fraction,
            stratify=self._strata(targets),
            random_state=int(self._rng.integers(np.iinfo(np.int32).max)),
        )
        if len(aside) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        parts = [
            (images[places], targets[places], None if weights is None else weights[places])
            for places in (kept, aside)
        ]
        return parts[0], parts[1]

    def _strata(self, targets: Array) -> Array | None:
        """Return what both parts of the images have the same shares of, if anything."""
        return None

    def _stopping_rule(
        self, validation: Data | None, *, incremental: bool
    ) -> LossStopping | ValidationStopping:
        if validation is not None:
            images, targets, weights = validation

            def score() -> float:
                scores = self._scores_of(images)
                return self._score_of(scores, targets, weights)

            return ValidationStopping(self.tol, self.n_iter_no_change, self.network_, score)
        if not incremental or self._stopping is None:
            self._stopping = LossStopping(self.tol, self.n_iter_no_change)
        return self._stopping

    def _finish(self, stopping: LossStopping | ValidationStopping) -> None:
        """Keep what training has found out."""
        if isinstance(stopping, ValidationStopping):
            stopping.restore()
            self.validation_scores_: list[float] | None = stopping.scores
            self.best_validation_score_: float | None = stopping.best
            self.best_loss_: float | None = None
        else:
            self.validation_scores_ = self.best_validation_score_ = None
            self.best_loss_ = stopping.best
        for layer in getattr(self.network_, "children", ()):
            if hasattr(layer, "forget"):
                layer.forget()  # What the last batch has left is needed no more.

    # ---- computing -----------------------------------------------------------------------------

    def _images(self, X: Any) -> Iterator[Array]:
        """Validate X, and yield its standardised images block by block."""
        check_is_fitted(self, "network_")
        rows, _, shape = read_rows(self, X, reset=False)
        check_shape(self, shape)
        for first in range(0, len(rows), BLOCK):
            part = rows[first : first + BLOCK]
            block = float_images(self, part, shape is None, self._dtype)
            yield self._standardization.apply(block)

    def _scores(self, X: Any) -> Array:
        """Compute what the network gives for X."""
        with Sharing():
            return np.concatenate([self.network_.predict(block) for block in self._images(X)])

    def _scores_of(self, images: Array) -> Array:
        """Compute what the network gives for images that are standardised."""
        blocks = range(0, len(images), BLOCK)
        return np.concatenate([self.network_.predict(images[i : i + BLOCK]) for i in blocks])

    def features(self, X: Any, layer: str | None = None) -> Array:
        """Compute what a layer of the trained network gives: features for another estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or (n_samples, C, H, W)
            The images.
        layer : str, default=None
            A name in ``network_.layers``, such as ``"Pool1"``. By default it is the last layer
            before the outputs.

        Returns
        -------
        ndarray of shape (n_samples, n_numbers)
            A row of the layer's numbers for each image.
        """
        check_is_fitted(self, "network_")
        names = list(self.network_.layers)
        name = names[max(0, len(names) - 2)] if layer is None else layer
        with Sharing():
            found = [
                self.network_.activations(block, [name])[name].reshape(len(block), -1)
                for block in self._images(X)
            ]
        return np.concatenate(found)
