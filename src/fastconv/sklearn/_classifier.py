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
        return self._fit(X, y, sample_weight, incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit: which classes there "
                "are more of is not known. Pass the weights as a dict."
            )
        _check_partial_fit_first_call(self, classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict_proba(self, X: Any) -> Array:
        check_is_fitted(self, "network_")
        return softmax(self._scores(X))

    def predict_log_proba(self, X: Any) -> Array:
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):  # The logarithm of what rounds to 0 is -inf.
            return np.log(probabilities, out=probabilities)

    def predict(self, X: Any) -> Array:
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
