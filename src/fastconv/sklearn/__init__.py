"""Estimators of scikit-learn for images: convolutional networks, and random convolutions."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastconv.sklearn needs scikit-learn: pip install 'fastconv[sklearn]'"
    ) from error

from fastconv.sklearn._classifier import CNNClassifier
from fastconv.sklearn._features import ConvFeatures
from fastconv.sklearn._regressor import CNNRegressor

__all__ = ["CNNClassifier", "CNNRegressor", "ConvFeatures"]
