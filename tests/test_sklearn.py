"""The estimators of scikit-learn: its own checks, and what they promise beyond them."""

from __future__ import annotations

import io
import os
import pickle
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Array, run_python

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

import joblib
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastconv
from fastconv._threads import Sharing
from fastconv.datasets import load_mnist
from fastconv.layers import Flatten
from fastconv.models import LeNet, ResNet, Sequential
from fastconv.sklearn import CNNClassifier, CNNRegressor, ConvFeatures
from fastconv.sklearn._pooling import pooled_features, regions_of
from fastconv.sklearn._random_filters import FilterGroup, draw_filters

X_DIGITS, Y_DIGITS = load_digits(return_X_y=True)
X, Y = X_DIGITS[:300], Y_DIGITS[:300]
NUMBERS = np.stack([X.mean(axis=1), X[:, :32].mean(axis=1) - X[:, 32:].mean(axis=1)], axis=1)

small = partial(CNNClassifier, filters=(4,), hidden_layer_sizes=(8,), max_iter=3, random_state=0)
small_regressor = partial(
    CNNRegressor, filters=(4,), hidden_layer_sizes=(8,), max_iter=3, random_state=0
)


@parametrize_with_checks([CNNClassifier(), CNNRegressor(), ConvFeatures()])
def test_conventions(estimator: Any, check: Callable[[Any], None]) -> None:
    """All of scikit-learn's checks, without an expected failure."""
    check(estimator)


def arrays_of(estimator: Any) -> list[bytes]:
    return [array.tobytes() for array in estimator.network_.state.values()]


# ----------------------------------------------------------------------------------- accuracies


def test_digits() -> None:
    """Three folds of the digits, with default parameters, beside scikit-learn's own network."""
    ours = cross_val_score(CNNClassifier(random_state=0), X_DIGITS, Y_DIGITS, cv=3).mean()
    assert ours >= 0.96


@pytest.mark.exhaustive
def test_digits_beside_a_multilayer_perceptron() -> None:
    theirs = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=1000))
    ours = cross_val_score(CNNClassifier(random_state=0), X_DIGITS, Y_DIGITS, cv=3).mean()
    assert ours >= cross_val_score(theirs, X_DIGITS, Y_DIGITS, cv=3).mean()


@pytest.mark.parametrize("seed", range(3))
def test_digits_by_features(seed: int) -> None:
    model = make_pipeline(ConvFeatures(random_state=seed), SVC(kernel="linear"))
    X_train, X_test, y_train, y_test = train_test_split(
        X_DIGITS, Y_DIGITS, test_size=0.25, random_state=seed
    )
    assert model.fit(X_train, y_train).score(X_test, y_test) >= 0.975


@pytest.fixture
def mnist() -> tuple[Array, Array, Array, Array]:
    if "FASTCONV_MNIST" not in os.environ:
        pytest.skip("FASTCONV_MNIST names no folder with MNIST's files")
    (x, t), (x_test, t_test) = load_mnist(os.environ["FASTCONV_MNIST"])
    return x[:8000], t[:8000], x_test[:2000], t_test[:2000]


@pytest.mark.exhaustive
def test_mnist(mnist: tuple[Array, Array, Array, Array]) -> None:
    x, t, x_test, t_test = mnist
    assert CNNClassifier(random_state=0).fit(x, t).score(x_test, t_test) >= 0.98
    linear = RidgeClassifier(alpha=100)
    model = make_pipeline(ConvFeatures(random_state=0), StandardScaler(), linear)
    assert model.fit(x, t).score(x_test, t_test) >= 0.98


# ---------------------------------------------------------------------------- what they are given


def test_forms_of_images() -> None:
    """Rows, grey images and images of one channel are the same to them."""
    rows = small().fit(X, Y)
    assert rows.image_shape_ == (1, 8, 8)
    assert rows.n_features_in_ == 64
    for form in ((300, 8, 8), (300, 1, 8, 8)):
        images = X.reshape(form)
        other = small().fit(images, Y)
        assert arrays_of(other) == arrays_of(rows)
        assert (other.predict(X) == rows.predict(images)).all()
    assert arrays_of(small().fit(X.reshape(300, 8, 8).tolist(), Y)) == arrays_of(rows)


def test_channels_last() -> None:
    images = np.random.default_rng(0).integers(0, 255, (60, 3, 6, 5), np.uint8)
    last, labels = np.moveaxis(images, 1, -1), np.arange(60) % 3
    first = small().fit(images, labels)
    assert first.image_shape_ == (3, 6, 5)
    other = small(channels_last=True).fit(last, labels)
    rows = small(channels_last=True, image_shape=(6, 5, 3)).fit(last.reshape(60, -1), labels)
    assert arrays_of(first) == arrays_of(other) == arrays_of(rows)
    assert (other.predict_proba(last) == first.predict_proba(images)).all()
    assert (rows.predict_proba(last.reshape(60, -1)) == first.predict_proba(images)).all()


def test_shape_of_rows() -> None:
    assert small().fit(X[:, :60], Y).image_shape_ == (1, 1, 60)
    assert small(image_shape=(6, 10)).fit(X[:, :60], Y).image_shape_ == (1, 6, 10)
    assert small(image_shape=(3, 4, 5)).fit(X[:, :60], Y).image_shape_ == (3, 4, 5)


@pytest.mark.parametrize("make", [small, partial(ConvFeatures, random_state=0)])
def test_bytes_are_scaled(make: Any) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 36), np.uint8)
    method = "predict_proba" if make is small else "transform"
    keywords = {"standardize": False} if make is small else {}
    estimator = make(**keywords).fit(images, np.arange(40) % 2)
    result = getattr(estimator, method)(images)
    scaled = images.astype("f4") / np.float32(255)
    assert (result == getattr(estimator, method)(scaled)).all()
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "dtype"),
    [(X, "f4"), (X.astype("f4") / 7, "f4"), (X.astype(int), "f4"), (X / 7, "f8")],
    ids=["bytes in float64", "float32", "integers", "float64"],
)
def test_computed_dtype(values: Array, dtype: str) -> None:
    """Pixels that float32 holds exactly are computed with in float32."""
    estimator = small(max_iter=1).fit(values, Y)
    assert {array.dtype for array in estimator.network_.params.values()} == {np.dtype(dtype)}
    assert estimator.predict_proba(values).dtype == dtype


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library: str) -> None:
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    names = [f"pixel{i}" for i in range(64)]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    estimator = small().fit(frame, frames.Series(Y))
    assert estimator.feature_names_in_.tolist() == names
    assert arrays_of(estimator) == arrays_of(small().fit(X, Y))
    assert (estimator.predict(frame) == small().fit(X, Y).predict(X)).all()
    features = ConvFeatures(4, random_state=0).set_output(transform=library)
    assert list(features.fit_transform(frame).columns) == features.get_feature_names_out().tolist()


def test_column_of_labels() -> None:
    with pytest.warns(DataConversionWarning):
        column = small().fit(X, Y[:, None])
    assert arrays_of(column) == arrays_of(small().fit(X, Y))


def test_labels_of_any_kind() -> None:
    names = np.array(["zero", "one", "two"])
    chosen = Y < 3
    estimator = small(max_iter=60).fit(X[chosen], names[Y[chosen]])
    assert estimator.classes_.tolist() == sorted(names)
    assert estimator.score(X[chosen], names[Y[chosen]]) > 0.9


# --------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_same_network_on_any_number_of_threads(threads: int, dtype: str) -> None:
    images = np.random.default_rng(0).normal(size=(160, 28, 28)).astype(dtype)
    estimator = small(dropout=0.3, batch_normalization=True, max_iter=1, early_stopping=True)
    with fastconv.num_threads(1):
        expected = clone(estimator).fit(images, np.arange(160) % 2)
    with fastconv.num_threads(threads):
        found = clone(estimator).fit(images, np.arange(160) % 2)
        assert (found.predict_proba(images) == expected.predict_proba(images)).all()
    assert arrays_of(found) == arrays_of(expected)
    assert found.validation_scores_ == expected.validation_scores_


def test_global_state_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    threads, precision = fastconv.get_num_threads(), fastconv.get_precision()
    small(early_stopping=True).fit(X, Y).predict(X)
    ConvFeatures(4, random_state=0).fit_transform(X)
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002
    assert (fastconv.get_num_threads(), fastconv.get_precision()) == (threads, precision)
    assert not list(tmp_path.iterdir())


def test_seeds_come_from_the_global_state_by_default() -> None:
    results = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        results.append(arrays_of(small(random_state=None).fit(X, Y)))
    assert results[0] == results[1] != arrays_of(small().fit(X, Y))


def test_attributes() -> None:
    estimator = small().fit(X, Y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 3
    assert estimator.t_ == 900
    assert estimator.loss_ == estimator.loss_curve_[-1]
    assert estimator.best_loss_ == min(estimator.loss_curve_)
    assert estimator.validation_scores_ is estimator.best_validation_score_ is None


def test_early_stopping_keeps_the_best_network() -> None:
    estimator = small(early_stopping=True, max_iter=30, n_iter_no_change=2, tol=0.01).fit(X, Y)
    scores = estimator.validation_scores_
    assert 3 < estimator.n_iter_ == len(scores) < 30
    assert estimator.best_validation_score_ == max(scores)
    assert estimator.best_loss_ is None
    shorter = small(early_stopping=True, max_iter=1 + int(np.argmax(scores)), tol=0.01)
    assert arrays_of(shorter.fit(X, Y)) == arrays_of(estimator)


def test_training_stops_without_progress() -> None:
    estimator = small(tol=1e9, n_iter_no_change=2, max_iter=30).fit(X, Y)
    assert estimator.n_iter_ == 4


def test_warm_start_goes_on() -> None:
    estimator = small(warm_start=True).fit(X, Y)
    first, network = estimator.loss_curve_[0], estimator.network_
    estimator.fit(X, Y)
    assert estimator.network_ is network
    assert len(estimator.loss_curve_) == 6
    assert estimator.loss_curve_[3] < first
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same clas"):
        estimator.fit(X[Y < 5], Y[Y < 5])


def test_fit_begins_anew() -> None:
    estimator = small().fit(X, Y)
    before, scores = arrays_of(estimator), estimator.loss_curve_
    assert arrays_of(estimator.fit(X, Y)) == before
    assert estimator.loss_curve_ == scores


def test_partial_fit_learns_an_epoch() -> None:
    """Calls with all images are the epochs of a fit, moments of the update rule included."""
    one, other = small(), small()
    for _ in range(3):
        one.partial_fit(X, Y, classes=np.arange(10))
    assert one.n_iter_ == 1
    assert len(one.loss_curve_) == 3
    other.fit(X, Y)
    assert one.loss_curve_[0] == other.loss_curve_[0]
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=0.2)


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    small(verbose=True, max_iter=2, early_stopping=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Iteration 1, loss = ")
    assert lines[1].startswith("Validation score: 0.")
    small().fit(X, Y)
    assert capsys.readouterr().out == ""


def test_class_weight() -> None:
    """A class that counts a hundredfold is found more often; weights of samples are the same."""
    plain = small().fit(X, Y)
    weighted = small(class_weight={3: 100}).fit(X, Y)
    assert (weighted.predict(X) == 3).sum() > (plain.predict(X) == 3).sum()
    by_sample = small().fit(X, Y, sample_weight=np.where(Y == 3, 100, 1))
    assert arrays_of(by_sample) == arrays_of(weighted)
    balanced = small(class_weight="balanced").fit(X, Y)
    counts = np.bincount(Y)
    by_sample = small().fit(X, Y, sample_weight=300 / (10 * counts[Y]))
    assert arrays_of(by_sample) == arrays_of(balanced)


@pytest.mark.parametrize("make", [small, small_regressor])
def test_samples_without_weight_do_not_count(make: Any) -> None:
    weights = np.arange(300) % 2
    target = Y if make is small else NUMBERS
    half = make().fit(X[weights == 1], target[weights == 1])
    assert arrays_of(make().fit(X, target, sample_weight=weights)) == arrays_of(half)


def test_several_outputs() -> None:
    estimator = CNNRegressor(random_state=0).fit(X, NUMBERS)
    assert estimator.predict(X).shape == (300, 2)
    assert estimator.score(X, NUMBERS) > 0.85
    single = small_regressor().fit(X, NUMBERS[:, 0])
    assert single.predict(X).shape == (300,)


def test_scale_of_targets_does_not_matter() -> None:
    """Targets are standardised, so that predictions of other units are the same in those units."""
    plain = small_regressor().fit(X / 7, NUMBERS)
    other = small_regressor().fit(X / 7, 1024 * NUMBERS)
    np.testing.assert_allclose(other.predict(X / 7), 1024 * plain.predict(X / 7), rtol=1e-9)


@pytest.mark.parametrize("network", [LeNet, partial(ResNet, 20)], ids=["LeNet", "ResNet"])
def test_networks_of_the_library(network: Any) -> None:
    images = np.zeros((8, 32, 32), np.float32)
    images[::2] = 1
    estimator = CNNClassifier(network=network, max_iter=1, random_state=0)
    estimator.fit(images, np.arange(8) % 2)
    assert estimator.network_.input_dim == (1, 32, 32)
    assert estimator.predict_proba(images).shape == (8, 2)
    assert arrays_of(clone(estimator).fit(images, np.arange(8) % 2)) == arrays_of(estimator)


def test_network_of_a_function() -> None:
    def build(shape: tuple[int, ...], outputs: int) -> Sequential:
        return Sequential(shape, seed=0).add(Flatten()).affine(outputs)

    estimator = CNNRegressor(network=build, max_iter=100).fit(X, NUMBERS)
    assert list(estimator.network_.layers) == ["Flatten1", "Affine1"]
    assert estimator.score(X, NUMBERS) > 0.8


def test_features_of_a_network() -> None:
    estimator = small().fit(X, Y)
    assert estimator.features(X).shape == (300, 8)
    assert estimator.features(X, "Pool1").shape == (300, 4 * 4 * 4)
    images = (X - X.mean()).reshape(-1, 1, 8, 8) / X.std()
    known = estimator.network_.activations(images, ["Relu2"])["Relu2"]
    np.testing.assert_allclose(estimator.features(X), known, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------- random filters


def test_features_are_those_of_their_definition() -> None:
    """Maxima and shares of positive numbers of every region, by NumPy's loops."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 2, 9, 7))
    for group in draw_filters(20, (2, 3, 5), (2, 9, 7), rng):
        found = pooled_features(images, group, ("max", "ppv"), (2, 3))
        maps = fastconv.conv2d(
            images, group.weight, group.bias, padding=group.padding, dilation=group.dilation
        )
        rows, columns = regions_of((2, 3), maps.shape[2:])
        regions = [maps[:, :, r, c] for r in rows for c in columns]
        assert sum(region[0, 0].size for region in regions) == maps[0, 0].size
        expected = np.stack([region.max(axis=(2, 3)) for region in regions], axis=2)
        np.testing.assert_allclose(found["max"], expected, rtol=1e-12)
        expected = np.stack([(region > 0).mean(axis=(2, 3)) for region in regions], axis=2)
        np.testing.assert_allclose(found["ppv"], expected, rtol=1e-12)


def test_filters_are_as_described() -> None:
    groups = draw_filters(300, (3, 5, 7), (3, 28, 20), np.random.default_rng(0))
    assert sum(len(group.weight) for group in groups) == 300
    assert {group.weight.shape[2:] for group in groups} == {(3, 3), (5, 5), (7, 7)}
    assert {group.dilation for group in groups} == {(1, 1), (2, 2), (4, 4), (8, 8)}
    assert {group.padding for group in groups} == {"same", "valid"}
    for group in groups:
        np.testing.assert_allclose(group.weight.mean(axis=(1, 2, 3)), 0, atol=1e-15)
        assert (np.abs(group.bias) <= 1).all()


def test_names_of_features() -> None:
    features = ConvFeatures(3, random_state=0).fit(X)
    assert features.get_feature_names_out().tolist() == [
        f"kernel{i}_{kind}" for i in range(3) for kind in ("max", "ppv")
    ]
    features = ConvFeatures(1, pooling="max", grid=(1, 2), random_state=0).fit(X)
    assert features.get_feature_names_out().tolist() == ["kernel0_max_0_0", "kernel0_max_0_1"]
    large = ConvFeatures(5, random_state=0).fit(np.zeros((2, 16, 16)))
    assert large.transform(np.zeros((2, 16, 16))).shape == (2, 5 * 2 * 4)
    assert len(large.get_feature_names_out()) == 40


def test_filters_of_a_network() -> None:
    estimator = small().fit(X, Y)
    weight, bias = estimator.network_.params["W1"], estimator.network_.params["b1"]
    features = ConvFeatures(filters=(weight, bias), pooling="max").fit(X)
    images = X.reshape(-1, 1, 8, 8).astype("f4")
    images = (images - images.mean()) / images.std()
    maps = fastconv.conv2d(images, weight, bias, padding="same")
    np.testing.assert_allclose(features.transform(X), maps.max(axis=(2, 3)), rtol=1e-4, atol=1e-5)
    assert ConvFeatures(filters=weight).fit(X).transform(X).shape == (300, 8)


@pytest.mark.parametrize("threads", [1, 3])
def test_features_of_an_image_do_not_depend_on_others(threads: int) -> None:
    images = np.random.default_rng(0).normal(size=(70, 20, 20)).astype("f4")
    features = ConvFeatures(40, random_state=0).fit(images)
    with fastconv.num_threads(2):
        expected = features.transform(images)
    with fastconv.num_threads(threads):
        single = np.concatenate([features.transform(images[i : i + 1]) for i in range(70)])
    assert (single == expected).all()


def test_group_without_padding_of_one_tap() -> None:
    group = FilterGroup(np.ones((1, 1, 1, 1)), np.zeros(1), (1, 1), "valid")
    found = pooled_features(np.array([[[[1.0, -1.0, 0.0, 2.0]]]]), group, ("ppv",), (1, 1))
    assert found["ppv"].tolist() == [[[0.5]]]


# ------------------------------------------------------------------------- copies, searches, pools


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "joblib": lambda estimator: _through_joblib(estimator),
}


def _through_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_copies(copied: Callable[[Any], Any]) -> None:
    estimator = small(dropout=0.2).partial_fit(X, Y, classes=np.arange(10))
    other = copied(estimator)
    assert (other.predict_proba(X) == estimator.predict_proba(X)).all()
    assert arrays_of(other.partial_fit(X, Y)) == arrays_of(estimator.partial_fit(X, Y))
    features = ConvFeatures(8, random_state=0).fit(X)
    assert (copied(features).transform(X) == features.transform(X)).all()


def test_search_over_filters() -> None:
    search = GridSearchCV(small(), {"filters": [(2,), (4, 6)]}, cv=2).fit(X, Y)
    filters = search.best_params_["filters"]
    found = [w.shape[0] for w in search.best_estimator_.network_.params.values() if w.ndim == 4]
    assert found == list(filters)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_scores_of_every_backend(backend: str) -> None:
    expected = cross_val_score(small(), X, Y, cv=2)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert (cross_val_score(small(), X, Y, cv=2) == expected).all()


@pytest.mark.exhaustive
def test_scores_of_dask() -> None:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    expected = cross_val_score(small(), X, Y, cv=2)
    for processes in (False, True):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        )
        with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
            assert (cross_val_score(small(), X, Y, cv=2) == expected).all()


def _threads_in_a_fit(_: int) -> int:
    """Return how many threads a process of a pool uses."""
    seen = []

    def build(shape: tuple[int, ...], outputs: int) -> Sequential:
        seen.append(fastconv.get_num_threads())
        return Sequential(shape, seed=0).affine(outputs)

    CNNClassifier(network=build, max_iter=1).fit(X[:20], Y[:20])
    return seen[0]


def test_processes_keep_to_their_share() -> None:
    cores = joblib.cpu_count()
    counts = joblib.Parallel(n_jobs=2, backend="loky")(
        joblib.delayed(_threads_in_a_fit)(i) for i in range(2)
    )
    assert max(counts) <= max(1, cores // 2)


def test_threads_keep_to_their_share() -> None:
    """Two fits at a time use half of the threads each, and one all of them."""
    together, counts = threading.Barrier(2, timeout=60), []

    def build(shape: tuple[int, ...], outputs: int) -> Sequential:
        together.wait()
        counts.append(fastconv.get_num_threads())
        together.wait()
        return Sequential(shape, seed=0).affine(outputs)

    before = fastconv.get_num_threads()
    fastconv.set_num_threads(6)
    try:
        joblib.Parallel(n_jobs=2, backend="threading")(
            joblib.delayed(CNNClassifier(network=build, max_iter=1).fit)(X[:20], Y[:20])
            for _ in range(2)
        )
        with Sharing(), Sharing():
            assert fastconv.get_num_threads() == 6
        assert fastconv.get_num_threads() == 6
    finally:
        fastconv.set_num_threads(before)
    assert counts == [3, 3]


def test_share_ends_with_an_error() -> None:
    with pytest.raises(KeyError), Sharing():
        raise KeyError
    assert Sharing._running == 0


def test_metadata_routing() -> None:
    weights = np.where(Y == 3, 100, 1)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model = make_pipeline(scaler, small().set_fit_request(sample_weight=True))
        model.fit(X, Y, sample_weight=weights)
    scaled = StandardScaler().fit_transform(X)
    assert arrays_of(model[-1]) == arrays_of(small().fit(scaled, Y, sample_weight=weights))


def test_pages_show_them() -> None:
    text = estimator_html_repr(make_pipeline(ConvFeatures(), small()))
    assert "ConvFeatures" in text
    assert "CNNClassifier" in text


# ----------------------------------------------------------------------------------------- errors


def with_one(value: Any, dtype: Any = float) -> Array:
    changed: Array = X.astype(dtype)
    changed[0, 0] = value
    return changed


BAD_FITS: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: small().fit(with_one(np.nan), Y), "Input X contains NaN"),
    "infinity": (lambda: small().fit(with_one(np.inf), Y), "Input X contains infinity"),
    "complex": (lambda: small().fit(with_one(1j, complex), Y), "Complex data not supported"),
    "no images": (lambda: small().fit(X[:0], Y[:0]), r"Found array with 0 sample\(s\)"),
    "no pictures": (lambda: small().fit(np.zeros((0, 8, 8)), Y[:0]), "Found array with 0 sample"),
    "one dimension": (lambda: small().fit(X[0], Y[:64]), "Reshape your data"),
    "five dimensions": (lambda: small().fit(X.reshape(300, 1, 1, 8, 8), Y), "with dim 5"),
    "one class": (lambda: small().fit(X, np.zeros(300)), "contains only one class"),
    "one class left": (
        lambda: small().fit(X, Y, sample_weight=(Y == 3).astype(float)),
        "contains only one class",
    ),
    "continuous labels": (lambda: small().fit(X, X[:, 10] / 3), "Unknown label type"),
    "no weights": (lambda: small().fit(X, Y, sample_weight=np.zeros(300)), "eight"),
    "negative weights": (lambda: small().fit(X, Y, sample_weight=-np.ones(300)), "egative"),
    "another length": (lambda: small().fit(X, Y[:-1]), "inconsistent numbers of samples"),
    "image_shape": (lambda: small(image_shape=(7, 8)).fit(X, Y), "means 56 features, in images"),
    "image_shape of images": (
        lambda: small(image_shape=(4, 16)).fit(X.reshape(-1, 8, 8), Y),
        r"but X has images \(C, H, W\) of \(1, 8, 8\)",
    ),
    "image_shape of zero": (lambda: small(image_shape=(0, 8)).fit(X, Y), "image_shape must be"),
    "solver": (lambda: small(solver="lbfgs").fit(X, Y), "The 'solver' parameter of CNNClassifier"),
    "filters": (lambda: small(filters=0).fit(X, Y), "The 'filters' parameter of CNNClassifier"),
    "learning rate": (
        lambda: small(learning_rate_init=1e30, max_iter=9).fit(X, Y),
        "Solver produced non-finite parameter weights",
    ),
    "validation": (
        lambda: small_regressor(early_stopping=True).fit(X[:5], NUMBERS[:5]),
        "The validation set is too small",
    ),
    "early stopping": (
        lambda: small(early_stopping=True).partial_fit(X, Y, classes=np.arange(10)),
        "partial_fit does not support early_stopping=True",
    ),
    "balanced": (
        lambda: small(class_weight="balanced").partial_fit(X, Y, classes=np.arange(10)),
        "'balanced' is not supported for partial_fit",
    ),
    "first partial fit": (lambda: small().partial_fit(X, Y), "classes must be passed on the first"),
    "unknown labels": (
        lambda: small().partial_fit(X, Y, classes=np.arange(9)),
        r"`y` has classes not in `self.classes_`",
    ),
    "outputs": (
        lambda: small_regressor().fit(X, NUMBERS).partial_fit(X, NUMBERS[:, 0]),
        "y has 1 outputs, but CNNRegressor is expecting 2",
    ),
    "network": (
        lambda: CNNClassifier(network=lambda shape, outputs: Sequential(shape).affine(3)).fit(X, Y),
        "gives 10 outputs for an image",
    ),
    "features": (
        lambda: small().fit(X, Y).predict(X[:, 1:]),
        "X has 63 features, but CNNClassifier is expecting 64 features as input",
    ),
    "another image": (
        lambda: small().fit(X, Y).predict(X.reshape(-1, 4, 16)),
        r"images \(C, H, W\) of \(1, 4, 16\), but CNNClassifier is expecting \(1, 8, 8\)",
    ),
    "too large for float32": (
        lambda: small(max_iter=1).fit(X, Y).predict(with_one(1e300)),
        "a value too large for dtype",
    ),
    "pooling": (lambda: ConvFeatures(pooling=("max", "mean")).fit(X), "pooling must be"),
    "own filters": (lambda: ConvFeatures(filters=np.ones((2, 3, 3))).fit(X), "filters must have"),
}


@pytest.mark.parametrize(("call", "message"), BAD_FITS.values(), ids=BAD_FITS.keys())
def test_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_sparse_images_are_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="Sparse data was passed"):
        small().fit(sparse.csr_array(X), Y)


def test_something_else_than_a_network() -> None:
    with pytest.raises(TypeError, match="must return a network with predict, gradient, params"):
        CNNClassifier(network=lambda shape, outputs: None).fit(X, Y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "features"])
def test_not_fitted(method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(CNNClassifier(), method)(X)


def test_import_without_scikit_learn() -> None:
    result = run_python("import sys\nsys.modules['sklearn'] = None\nimport fastconv.sklearn")
    assert "pip install 'fastconv[sklearn]'" in result.stderr


def test_fastconv_does_not_import_scikit_learn() -> None:
    result = run_python("import sys, fastconv\nassert 'sklearn' not in sys.modules")
    assert result.returncode == 0, result.stderr
