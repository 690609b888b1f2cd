"""The regressor of images."""

from __future__ import annotations

from typing import Any, Self

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
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return self._fit(X, y, sample_weight, incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        check_is_fitted(self, "network_")
        predicted = self._target_standardization.undo(self._scores(X))
        return predicted[:, 0] if self._is_single else predicted

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # ---- what the two kinds differ in ----------------------------------------------------------

    _y_checks = {"multi_output": True, "y_numeric": True}

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
