"""Measure the figures and draw the pictures of docs/scikit-learn.md.

    python scripts/scikit_learn.py --out docs

It needs scikit-learn and matplotlib: pip install "fastconv[sklearn,viz]".
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import joblib
import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fastconv.sklearn import CNNClassifier, ConvFeatures

SHOWN = 10
"""The number of misclassified images in the picture."""

MODELS: dict[str, Any] = {
    "`CNNClassifier()`": CNNClassifier(random_state=0),
    "`CNNClassifier(batch_normalization=True)`": CNNClassifier(
        batch_normalization=True, random_state=0
    ),
    "`ConvFeatures()`, linear SVM": make_pipeline(
        ConvFeatures(random_state=0), SVC(kernel="linear")
    ),
    "`StandardScaler()`, `MLPClassifier()`": make_pipeline(
        StandardScaler(), MLPClassifier(random_state=0, max_iter=1000)
    ),
    "SVM on pixels": SVC(),
}


def compare() -> None:
    """Print the accuracy and the time of three folds of the digits, as a table in Markdown."""
    X, y = load_digits(return_X_y=True)
    print("| model | accuracy | seconds |\n|---|---|---|")
    for name, model in MODELS.items():
        start = time.perf_counter()
        scores = cross_val_score(model, X, y, cv=3)
        print(f"| {name} | {scores.mean():.3f} | {time.perf_counter() - start:.2f} |")


def compare_backends() -> None:
    """Print how long four folds take in processes, in threads, and one after the other."""
    X = np.random.default_rng(0).normal(size=(2000, 28, 28)).astype(np.float32)
    y = np.arange(2000) % 10
    model = CNNClassifier(max_iter=3, random_state=0)
    for backend, jobs in (("sequential", 1), ("loky", 2), ("threading", 2), ("loky", 2)):
        with joblib.parallel_config(backend=backend, n_jobs=jobs):
            start = time.perf_counter()
            cross_val_score(model, X, y, cv=4)
            print(f"{backend}: {time.perf_counter() - start:.2f} s")


def draw(folder: Path) -> None:
    """Draw the confusion matrix of a classifier, and images that it takes for others."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    predicted = CNNClassifier(random_state=0).fit(X_train, y_train).predict(X_test)
    display = ConfusionMatrixDisplay.from_predictions(
        y_test, predicted, cmap="Blues", colorbar=False
    )
    display.figure_.set_size_inches(4.2, 4.2)
    display.figure_.savefig(folder / "sklearn-confusion.png", dpi=80, bbox_inches="tight")
    wrong = np.flatnonzero(predicted != y_test)[:SHOWN]
    figure, axes = plt.subplots(1, len(wrong), figsize=(0.9 * len(wrong), 1.2), squeeze=False)
    for place, axis in zip(wrong, axes[0], strict=True):
        axis.imshow(X_test[place].reshape(8, 8), cmap="gray_r")
        axis.set_title(f"{y_test[place]}, not {predicted[place]}", fontsize=8)
        axis.axis("off")
    figure.savefig(folder / "sklearn-misclassified.png", dpi=80, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder for the pictures")
    parser.add_argument("--backends", action="store_true", help="measure joblib's backends only")
    arguments = parser.parse_args()
    if arguments.backends:
        compare_backends()
        return
    compare()
    if arguments.out is not None:
        draw(arguments.out)


if __name__ == "__main__":
    main()
