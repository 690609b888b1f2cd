"""Losses that weight their images, the loss of regression, and training with both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradients import numerical_gradient
from helpers import Array, assert_same

from fastconv.layers import MeanSquaredError, Relu, SoftmaxWithLoss
from fastconv.models import Sequential
from fastconv.training import Epoch, Trainer

COUNTS = np.array([2, 0, 1, 3])
"""How often each of four images counts."""
RNG = np.random.default_rng(0)
SCORES, NUMBERS = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
LABELS = np.array([0, 2, 1, 1])
LOSSES: dict[str, tuple[type[Any], Array]] = {
    "classes": (SoftmaxWithLoss, LABELS),
    "numbers": (MeanSquaredError, NUMBERS),
}
each_loss = pytest.mark.parametrize(("kind", "t"), LOSSES.values(), ids=LOSSES.keys())


@each_loss
def test_weight_counts_as_repetition(kind: type[Any], t: Array) -> None:
    """The mean divides by the images in both cases, so that weights of mean 1 repeat images."""
    weighted, repeated = kind(), kind()
    weights = COUNTS / COUNTS.mean()
    loss = weighted.forward(SCORES, t, weights)
    expected = repeated.forward(SCORES.repeat(COUNTS, axis=0), t.repeat(COUNTS, axis=0))
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    starts = np.cumsum(COUNTS)[:-1]
    parts = [part.sum(axis=0) for part in np.split(repeated.backward(), starts)]
    np.testing.assert_allclose(weighted.backward(), parts, rtol=1e-13, atol=1e-16)


@each_loss
@pytest.mark.parametrize("weights", [None, [0.5, 0.0, 2.0, 1.0]], ids=["alike", "weighted"])
def test_gradient(kind: type[Any], t: Array, weights: Any) -> None:
    """The textbook's 1e-7 within the logarithm is no part of its gradient, hence the tolerance."""
    layer, x = kind(), SCORES.copy()
    layer.forward(x, t, weights)
    gradient = layer.backward()
    expected = numerical_gradient(lambda: kind().forward(x, t, weights), x)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)
    assert_same(layer.backward(2.0), 2 * gradient)


@each_loss
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_dtype_and_weights_of_one(kind: type[Any], t: Array, dtype: str) -> None:
    """Weights of another dtype change neither that of the gradient nor, if all are 1, a bit."""
    weighted, plain, x = kind(), kind(), SCORES.astype(dtype)
    assert weighted.forward(x, t, np.ones(4)) == plain.forward(x, t)
    assert_same(weighted.backward(), plain.backward())
    assert weighted.backward().dtype == dtype


def test_weights_of_the_last_call_are_forgotten() -> None:
    layer, plain = SoftmaxWithLoss(), SoftmaxWithLoss()
    layer.forward(SCORES, LABELS, COUNTS)
    layer.forward(SCORES, LABELS)
    plain.forward(SCORES, LABELS)
    assert_same(layer.backward(), plain.backward())


def test_half_the_mean_squared_error() -> None:
    loss = MeanSquaredError().forward(SCORES, NUMBERS, COUNTS)
    expected = np.mean(COUNTS[:, None] * (SCORES - NUMBERS) ** 2) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-14)


def test_targets_of_one_output() -> None:
    column, row = MeanSquaredError(), MeanSquaredError()
    assert column.forward(SCORES[:, :1], NUMBERS[:, :1]) == row.forward(
        SCORES[:, :1], NUMBERS[:, 0]
    )


def test_backward_needs_a_forward() -> None:
    with pytest.raises(RuntimeError, match=r"^MeanSquaredError: backward needs a forward"):
        MeanSquaredError().backward()


BAD_WEIGHTS: list[tuple[Any, type[Exception], str]] = [
    ([1.0, 2.0], ValueError, "sample_weight must have shape (4,) for 4 images, got (2,)"),
    (np.ones((4, 1)), ValueError, "sample_weight must have shape (4,) for 4 images, got (4, 1)"),
    ([1.0, 1.0, 1.0, -1.0], ValueError, "sample_weight must hold numbers from 0 on"),
    ([1.0, 1.0, 1.0, np.nan], ValueError, "without NaN and infinity"),
    ([1.0, 1.0, 1.0, np.inf], ValueError, "without NaN and infinity"),
    (["a"] * 4, TypeError, "sample_weight must be"),
]


@each_loss
@pytest.mark.parametrize(("weights", "error", "words"), BAD_WEIGHTS, ids=lambda value: None)
def test_bad_weights(
    kind: type[Any], t: Array, weights: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"^{kind.__name__}: .*{re.escape(words)}"):
        kind().forward(SCORES, t, weights)


BAD_TARGETS: list[tuple[Any, type[Exception], str]] = [
    (NUMBERS[:3], ValueError, "t must have shape (4, 3) for 4 images and 3 outputs, got (3, 3)"),
    (NUMBERS[:, 0], ValueError, "t must have shape (4, 3) for 4 images and 3 outputs, got (4,)"),
    (NUMBERS * np.nan, ValueError, "t must be finite"),
    (NUMBERS * 1j, TypeError, "t must be of"),
]


@pytest.mark.parametrize(("t", "error", "words"), BAD_TARGETS, ids=lambda value: None)
def test_bad_targets(t: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^MeanSquaredError: {re.escape(words)}"):
        MeanSquaredError().forward(SCORES, t)


# -------------------------------------------------------------------------------------- training

IMAGES = RNG.normal(size=(12, 1, 4, 4))
CLASSES = RNG.integers(0, 3, 12)
WEIGHTS = np.tile(COUNTS, 3)


def network(dtype: Any = "f8") -> Sequential:
    net = Sequential((1, 4, 4), dtype=dtype, seed=0).convolution(2, 3, pad=1)
    return net.add(Relu()).affine(3)


def trainer(net: Sequential, x: Array = IMAGES, t: Any = CLASSES, **changes: Any) -> Trainer:
    arguments = {"epochs": 3, "optimizer": "Adam", "verbose": False, **changes}
    return Trainer(net, x, t, **arguments)


def test_training_with_weights_is_training_with_repetitions() -> None:
    """Each epoch is one batch, so that the order of images does not matter."""
    weighted, repeated = network(), network()
    trainer(weighted, sample_weight=7 * WEIGHTS).train()
    trainer(repeated, IMAGES.repeat(WEIGHTS, axis=0), CLASSES.repeat(WEIGHTS)).train()
    for name, array in weighted.params.items():
        np.testing.assert_allclose(array, repeated.params[name], rtol=1e-9, atol=1e-12)


def test_weights_follow_their_images_into_mini_batches() -> None:
    """A batch without weight changes nothing, and the other one everything."""
    weights = np.array([0.0] * 6 + [1.0] * 6)
    net = network()
    training = trainer(
        net, mini_batch_size=6, sample_weight=weights, shuffle=False, optimizer="SGD"
    )
    before = {name: array.copy() for name, array in net.params.items()}
    assert training.train_step() == 0
    assert all((array == before[name]).all() for name, array in net.params.items())
    assert training.train_step() > 0
    assert not (net.params["W1"] == before["W1"]).all()


def test_order_without_shuffling() -> None:
    training = trainer(network(), mini_batch_size=5, shuffle=False)
    for _ in range(3):
        assert training.order.tolist() == list(range(12))
        training.train_epoch()


def test_an_epoch_at_a_time() -> None:
    """An epoch that was begun is completed, and all of them are those of `train`."""
    single, whole = network(), network()
    one, other = trainer(single, mini_batch_size=5), trainer(whole, mini_batch_size=5)
    one.train_step()
    assert [one.train_epoch() for _ in range(3)] == one.history
    other.train()
    assert one.history == other.history
    assert all((array == whole.params[name]).all() for name, array in single.params.items())


def test_no_accuracies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = trainer(network(), evaluate_sample_num_per_epoch=0, verbose=True, epochs=1)
    training.train()
    assert training.history == [Epoch(1, training.train_loss_list[0], None, None)]
    assert training.train_acc_list == []
    assert re.fullmatch(r"epoch 1 of 1: loss \d\.\d{4}\n", capsys.readouterr().err)
    training.write_history(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().splitlines()[1].endswith(",,")


def test_training_on_numbers() -> None:
    """A network without a hidden layer finds the numbers that another one gives."""
    teacher, net = (Sequential((16,), dtype="f8", seed=seed).affine(2) for seed in (1, 2))
    net.last_layer = MeanSquaredError()
    x = RNG.normal(size=(100, 16))
    training = trainer(
        net,
        x,
        teacher.predict(x),
        epochs=60,
        mini_batch_size=20,
        optimizer="SGD",
        optimizer_param={"lr": 0.3},
    )
    training.train()
    assert training.train_acc_list == []
    np.testing.assert_allclose(net.params["W1"], teacher.params["W1"], atol=1e-3)


def test_labels_do_not_fit_a_loss_of_numbers() -> None:
    net = network()
    net.last_layer = MeanSquaredError()
    with pytest.raises(ValueError, match=r"^Trainer: t_train does not fit: t must have shape \(12"):
        trainer(net)


def test_all_weights_zero() -> None:
    with pytest.raises(ValueError, match=r"^Trainer: sample_weight must not be 0 for all images$"):
        trainer(network(), sample_weight=np.zeros(12))


@pytest.mark.parametrize(
    "changes", [{}, {"sample_weight": WEIGHTS + 1}, {"shuffle": False}], ids=str
)
def test_checkpoint_of_other_weights_or_order(tmp_path: Path, changes: dict[str, Any]) -> None:
    saved = trainer(network(), sample_weight=WEIGHTS, mini_batch_size=5)
    saved.train_epoch()
    saved.save_checkpoint(tmp_path / "saved")
    same = trainer(network(), sample_weight=WEIGHTS, mini_batch_size=5)
    same.load_checkpoint(tmp_path / "saved")
    assert same.history == saved.history
    other = trainer(network(), mini_batch_size=5, **changes)
    with pytest.raises(ValueError, match="is not a checkpoint of this training: it has sample_w"):
        other.load_checkpoint(tmp_path / "saved")
