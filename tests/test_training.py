"""The training loop: what it visits and reports, and going on bit for bit."""

from __future__ import annotations

import base64
import csv
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, fields
from itertools import islice
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    FLOATS,
    Array,
    DType,
    Shape,
    assert_same,
    memory_bounded,
    npy,
    replace_member,
)
from test_optimizers import RULES

from fastconv.augment import Compose, RandomFlip, RandomShift
from fastconv.layers import Affine, Dropout, Pooling, Relu, SoftmaxWithLoss
from fastconv.models import Sequential
from fastconv.training import SGD, Constant, Cosine, Epoch, Step, Trainer

SIZE = 6
CLASSES = 3
COUNT = 23  # images: three mini-batches of 8, the last of which has 7


def images(count: int = COUNT, seed: int = 0) -> tuple[Array, Array]:
    """Draw images that can be learned: the brightest of three rows is the class."""
    random = np.random.default_rng(seed)
    x = random.random((count, 1, SIZE, SIZE), np.float32)
    t = random.integers(0, CLASSES, count)
    x[np.arange(count), 0, 2 * t] += 1
    return x, t


def network(seed: Any = 1, filters: int = 4, dtype: Any = np.float32) -> Sequential:
    """Make a network with everything that must be kept: dropout and batch normalisation too."""
    net = Sequential((1, SIZE, SIZE), dtype=dtype, seed=seed)
    net.convolution(filters, 3, pad=1).batch_normalization().add(Relu(), Pooling(2, 2, stride=2))
    return net.affine(8).batch_normalization().add(Relu(), Dropout(0.3)).affine(CLASSES)


def trainer(net: Any = None, **changes: Any) -> Trainer:
    """Make a trainer of three epochs of three steps."""
    arguments: dict[str, Any] = {
        "epochs": 3,
        "mini_batch_size": 8,
        "optimizer": "Adam",
        "optimizer_param": {"lr": 0.01},
        "schedule": "cosine",
        "verbose": False,
        "seed": 2,
        **changes,
    }
    data = arguments.pop("data", (*images(), *images(10, seed=1)))
    return Trainer(network() if net is None else net, *data, **arguments)


def bits(arrays: Mapping[str, Array]) -> dict[str, tuple[str, Shape, bytes]]:
    return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}


def random_state(rng: np.random.Generator | None) -> str:
    """Write down the state of a generator, which may hold arrays."""
    return "" if rng is None else json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)


def everything(training: Trainer) -> dict[str, Any]:
    """Collect, bit for bit, all that a training consists of."""
    net: Any = training.network
    return {
        "network": bits(getattr(net, "state", net.params)),
        "random": random_state(getattr(net, "rng", None)),
        "kept": {name: bits(kept) for name, kept in training.optimizer.kept.items()},
        "iter": training.optimizer.iter,
        "losses": list(training.train_loss_list),
        "history": list(training.history),
        "order": training.order.tolist(),
        "rng": random_state(training.rng),
    }


@pytest.fixture
def sigint() -> Iterator[None]:
    """Let Ctrl-C interrupt as usual, even where the tests run with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- Epochs, steps and lists ----------------------------------------------------------------


class Recorder:
    """A network that learns nothing, and notes which images it sees and at what learning rate."""

    def __init__(self) -> None:
        self.params = {"W1": np.zeros(1)}
        self.last_layer = SoftmaxWithLoss()
        self.seen: list[list[tuple[int, int]]] = []

    def predict(self, x: Array) -> Array:
        return np.zeros((len(x), 100))

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        self.last_layer.forward(self.predict(x), t)
        self.seen.append([(int(image), int(label)) for image, label in zip(x[:, 0], t)])
        return {"W1": np.ones(1)}

    def accuracy(self, x: Array, t: Array) -> float:
        return len(x) / 1000


class RecordingSGD(SGD):
    """Descent that notes the learning rates."""

    def __init__(self, lr: float) -> None:
        super().__init__(lr)
        self.rates: list[float] = []

    def update(self, params: Any, grads: Any) -> None:
        self.rates.append(self.lr)
        super().update(params, grads)


@pytest.mark.parametrize(
    ("count", "batch", "sizes"),
    [
        (23, 8, [8, 8, 7]),
        (24, 8, [8, 8, 8]),
        (25, 8, [8, 8, 8, 1]),
        (5, 100, [5]),
        (3, 1, [1] * 3),
    ],
)
def test_every_epoch_uses_every_image_once(count: int, batch: int, sizes: list[int]) -> None:
    net = Recorder()
    x, t = np.arange(count)[:, None], np.arange(count) * 3 % 100
    training = Trainer(net, x, t, x, t, epochs=4, mini_batch_size=batch, verbose=False)
    assert training.steps_per_epoch == len(sizes)
    training.train()
    assert [len(step) for step in net.seen] == 4 * sizes
    pairs = [pair for step in net.seen for pair in step]
    epochs = [pairs[i * count : (i + 1) * count] for i in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == [(i, i * 3 % 100) for i in range(count)]
    if count > 20:
        assert len(set(map(tuple, epochs))) == 4


def test_mini_batches_are_augmented() -> None:
    """The network learns from what augmentation makes of images, and is measured on the images."""
    seen: list[tuple[list[int], bool]] = []

    def augment(batch: Array, rng: np.random.Generator) -> Array:
        seen.append((batch[:, 0].astype(int).tolist(), rng is training.rng))
        batch += 100  # The mini-batch is a copy that may be written to.
        return batch

    measured: list[Array] = []
    net = Recorder()
    accuracy = net.accuracy
    net.accuracy = lambda x, t: measured.append(x.copy()) or accuracy(x, t)  # type: ignore
    x = np.arange(10.0)[:, np.newaxis]
    data = (x, np.arange(10), x + 50, np.arange(10))
    training = trainer(net, data=data, epochs=1, mini_batch_size=4, augment=augment)
    training.train()
    assert [len(batch) for batch, _ in seen] == [4, 4, 2]
    assert sorted(image for batch, _ in seen for image in batch) == list(range(10))
    assert all(is_trainers for _, is_trainers in seen)
    assert [[label + 100 for _, label in batch] for batch in net.seen] == [
        [image for image, _ in batch] for batch in net.seen
    ]
    np.testing.assert_array_equal(training.x_train, np.arange(10.0)[:, np.newaxis])
    for array, expected in zip(measured, (x + 50, x), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("result", [lambda x: x[:, :, 1:], lambda x: x[:-1], lambda x: None])
def test_augmentation_that_changes_the_shape(result: Callable[[Array], Any]) -> None:
    net = network()
    before = bits(net.state)
    training = trainer(net, augment=lambda images, rng: result(images))
    words = "Trainer: augment must return images of the same shape (8, 1, 6, 6), got ("
    with pytest.raises(ValueError, match=re.escape(words)):
        training.train_step()
    assert bits(net.state) == before
    assert training.train_loss_list == []


def test_accuracies_are_of_as_many_images_as_asked_for() -> None:
    x, t = np.arange(30)[:, None], np.zeros(30, int)
    for evaluated, accuracies in ((None, (0.03, 0.02)), (25, (0.025, 0.02)), (7, (0.007, 0.007))):
        training = Trainer(
            Recorder(),
            x,
            t,
            x[:20],
            t[:20],
            1,
            evaluate_sample_num_per_epoch=evaluated,
            verbose=False,
        )
        training.train()
        assert (training.train_acc_list[0], training.test_acc_list[0]) == accuracies


def test_history_and_lists() -> None:
    net = network()
    training = trainer(net)
    assert training.history == []
    assert training.train_loss_list == training.train_acc_list == training.test_acc_list == []
    losses = [training.train_step() for _ in range(3)]
    assert losses == training.train_loss_list
    (x, t), (x_test, t_test) = images(), images(10, seed=1)
    epoch = Epoch(1, sum(losses) / 3, net.accuracy(x, t), net.accuracy(x_test, t_test))
    assert training.history == [epoch]
    training.train()
    assert len(training.train_loss_list) == 9
    assert [epoch.epoch for epoch in training.history] == [1, 2, 3]
    assert training.train_acc_list == [epoch.train_acc for epoch in training.history]
    assert training.test_acc_list == [epoch.test_acc for epoch in training.history]
    for values in (training.train_loss_list, *map(astuple, training.history)):
        assert {type(value) for value in values} <= {float, int}
    assert not training.interrupted


def test_without_images_to_test_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training is the same, bit for bit, and reports no test accuracy."""
    path = tmp_path / "checkpoint"
    expected, training = trainer(), trainer(data=images(), verbose=True, checkpoint=path)
    expected.train()
    training.train()
    assert everything(training)["network"] == everything(expected)["network"]
    assert training.x_test is training.t_test is None
    assert training.test_acc_list == []
    assert training.train_acc_list == expected.train_acc_list
    assert [epoch.test_acc for epoch in training.history] == [None] * 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(LINE.format(epoch).replace(r", test \d+\.\d\d%", ""), line)
    training.write_history(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["test_acc"] for row in rows] == [""] * 3
    assert [float(row["train_acc"]) for row in rows] == training.train_acc_list
    resumed = trainer(network(seed=9), data=images())
    resumed.load_checkpoint(path)
    assert everything(resumed) == everything(training)


@pytest.mark.parametrize("missing", ["x_test", "t_test"])
def test_images_to_test_with_need_labels(missing: str) -> None:
    test = dict(zip(("x_test", "t_test"), images(10, seed=1)))
    test[missing] = None  # type: ignore[assignment]
    message = f"^Trainer: x_test and t_test must be given together, {missing} is None$"
    with pytest.raises(ValueError, match=message):
        Trainer(network(), *images(), **test)  # type: ignore[arg-type]


def test_it_learns() -> None:
    training = trainer(epochs=40)
    training.train()
    assert training.train_acc_list[-1] == 1
    assert training.train_loss_list[-1] < 0.5 * training.train_loss_list[0]


def test_training_that_is_complete_stays_as_it_is() -> None:
    training = trainer()
    training.train()
    before = everything(training)
    training.train()
    assert everything(training) == before


def _cosine(progress: float) -> float:
    return (1 + cos(pi * progress)) / 2


def halving(progress: float) -> float:
    """Halve the learning rate again and again: a schedule of a user's."""
    return float(0.5 ** (4 * progress))


SCHEDULED: dict[str, tuple[Any, Callable[[float], float]]] = {
    "constant": ("constant", lambda p: 1),
    "cosine": ("cosine", _cosine),
    "step": ("step", lambda p: 1 if p < 0.5 else 0.1 if p < 0.75 else 0.01),
    "Constant": (Constant(warmup=0.5), lambda p: min(1, p / 0.5)),
    "Cosine": (Cosine(warmup=0.5), lambda p: 2 * p if p < 0.5 else _cosine(2 * p - 1)),
    "Step": (
        Step([1 / 3, 2 / 3], 0.5, warmup=2 / 9),
        lambda p: [0, 0.5, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25][round(9 * p)],
    ),
    "function": (halving, halving),
}
"""Schedules, and the factors that a training of 9 steps has by them."""


@pytest.mark.parametrize(("schedule", "factor"), SCHEDULED.values(), ids=SCHEDULED.keys())
def test_schedule(schedule: Any, factor: Callable[[float], float]) -> None:
    optimizer = RecordingSGD(0.5)
    training = trainer(optimizer=optimizer, optimizer_param=None, schedule=schedule)
    training.train()
    assert training.schedule is schedule
    assert optimizer.rates == pytest.approx([0.5 * factor(i / 9) for i in range(9)])
    assert optimizer.lr == 0.5


def test_milestones_are_met_at_the_first_step_of_an_epoch() -> None:
    """For any number of epochs and of steps: both quotients are of the same value."""
    for epochs in (30, 90, 164):
        for epoch in range(1, epochs):
            schedule = Step([epoch / epochs])
            for steps in (1, 3, 391):
                step = epoch * steps
                assert schedule((step - 1) / (epochs * steps)) == 1
                assert schedule(step / (epochs * steps)) == 0.1


def test_schedules_by_their_values() -> None:
    assert Step() == Step((0.5, 0.75), 0.1, 0.0) == Step(np.array([0.5, 0.75]))
    others: list[Any] = [Constant(), Cosine(0.1), Step()]
    assert all(other != Cosine() for other in others)
    assert Cosine(warmup=1 / 4)(1 / 8) == Constant(warmup=1 / 4)(1 / 8) == 0.5
    assert Cosine()(1.0) == Cosine(0.5)(1.0) == Cosine()(1.5) == 0


def refusing(make: Any, *arguments: Any) -> Any:
    """Call with arguments of types that are not accepted."""
    return make(*arguments)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Cosine(1), ValueError, "Cosine: warmup must be a fraction of the training, at"),
        (lambda: Constant(-0.1), ValueError, "at least 0 and less than 1, got -0.1"),
        (
            lambda: refusing(Constant, "0"),
            TypeError,
            "Constant: warmup must be a fraction of the training",
        ),
        (
            lambda: refusing(Step, 0.5),
            TypeError,
            "milestones must be increasing fractions of the training",
        ),
        (lambda: Step([0.5, 0.5]), ValueError, "between 0 and 1, got [0.5, 0.5]"),
        (lambda: Step([30, 60]), ValueError, "between 0 and 1, got [30, 60]"),
        (lambda: Step([0]), ValueError, "between 0 and 1, got [0]"),
        (
            lambda: refusing(Step, ["x"]),
            TypeError,
            "milestones must be increasing fractions of the training",
        ),
        (lambda: Step(gamma=0), ValueError, "Step: gamma must be a positive number, got 0"),
        (lambda: trainer(schedule=Cosine), TypeError, "schedule must be one of 'constant', "),
        (lambda: trainer(schedule=None), TypeError, "a function of progress, got None"),
    ],
)
def test_bad_schedules(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", [*RULES, "adam", "SGD", "rmsPROP"])
def test_optimiser_by_name(name: str) -> None:
    training = trainer(optimizer=name, optimizer_param={"lr": 0.25})
    assert type(training.optimizer).__name__.lower() == name.lower()
    assert training.optimizer.lr == 0.25


def test_labels_in_every_form() -> None:
    (x, t), (x_test, t_test) = images(), images(10, seed=1)
    expected = trainer()
    expected.train()
    eye = np.eye(CLASSES)
    for form in (lambda t: t[:, None], lambda t: eye[t], lambda t: t.tolist()):
        training = trainer(data=(x, form(t), x_test, form(t_test)))
        training.train()
        assert everything(training) == everything(expected)


def test_same_seed_gives_the_same_result() -> None:
    first, second = trainer(), trainer()
    first.train()
    second.train()
    assert everything(first) == everything(second)
    for other in (trainer(network(seed=5)), trainer(seed=5)):
        other.train()
        assert other.train_loss_list != first.train_loss_list


def test_many_batch_normalisations_before_they_know_anything() -> None:
    """Many untrained layers in a row divide by nearly 0."""
    net = Sequential((1, SIZE, SIZE), seed=1)
    for _ in range(14):
        net.convolution(3, 3, pad=1).batch_normalization().add(Relu())
    training = trainer(net.affine(CLASSES), epochs=1)
    training.train()
    assert np.isfinite(training.train_loss_list).all()


def test_images_and_labels_are_left_alone() -> None:
    data = (*images(), *images(10, seed=1))
    for array in data:
        array.flags.writeable = False
    before = [array.copy() for array in data]
    trainer(data=data).train()
    for array, expected in zip(data, before):
        np.testing.assert_array_equal(array, expected)


# --- Checkpoints ----------------------------------------------------------------------------


def assert_goes_on(path: Path, expected: Trainer, **changes: Any) -> None:
    """Load a checkpoint into a trainer that begins otherwise, and train to the end."""
    dtype = changes.pop("dtype", np.float32)
    resumed = trainer(network(seed=99, dtype=dtype), seed=99, **changes)
    resumed.load_checkpoint(path)
    resumed.train()
    assert everything(resumed) == everything(expected)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 8, 9])
@pytest.mark.parametrize("name", RULES)
def test_going_on_from_any_step(tmp_path: Path, name: str, step: int) -> None:
    expected = trainer(optimizer=name)
    expected.train()
    first = trainer(optimizer=name)
    for _ in range(step):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert_goes_on(tmp_path / "checkpoint", expected, optimizer=name)
    first.train()  # saving changes nothing
    assert everything(first) == everything(expected)


SETTINGS: dict[str, dict[str, Any]] = {
    "residual networks": {
        "optimizer": "Momentum",
        "optimizer_param": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "schedule": Step(milestones=(0.5, 0.75), gamma=0.1, warmup=0.1),
    },
    "Nesterov": {"optimizer": "Momentum", "optimizer_param": {"nesterov": True}},
    "clipped": {"optimizer": "AdamW", "optimizer_param": {"clip_norm": 0.1}},
    "by value": {"optimizer": "RMSprop", "optimizer_param": {"clip_value": 0.01}},
    "weights only": {
        "optimizer": "Adam",
        "optimizer_param": {"weight_decay": 0.1, "decay_biases": False},
    },
    "warm": {"schedule": Cosine(warmup=0.3)},
    "stepwise": {"schedule": "step"},
    "of a user": {"schedule": halving},
}


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_going_on_with_all_settings(tmp_path: Path, settings: dict[str, Any], step: int) -> None:
    path = tmp_path / "checkpoint"
    expected, first, plain = trainer(**settings), trainer(**settings), trainer()
    expected.train()
    for _ in range(step):
        first.train_step()
    first.save_checkpoint(path)
    assert_goes_on(path, expected, **settings)
    plain.train()
    assert plain.train_loss_list != expected.train_loss_list
    with pytest.raises(ValueError, match="is not a checkpoint of this training: it has "):
        plain.load_checkpoint(path)


def test_names_of_schedules_stand_for_their_defaults(tmp_path: Path) -> None:
    for name, schedule in (("constant", Constant()), ("cosine", Cosine()), ("step", Step())):
        trainer(schedule=name).save_checkpoint(tmp_path / "checkpoint")
        trainer(schedule=schedule).load_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_checkpoints_from_before_there_were_options(tmp_path: Path, schedule: str) -> None:
    """They lack what the options are, and are of trainings with the defaults."""
    path = tmp_path / "checkpoint"
    settings: dict[str, Any] = {"optimizer": "Momentum", "schedule": schedule}
    expected, first = trainer(**settings), trainer(**settings)
    expected.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(path)
    with np.load(path) as archive:
        about = json.loads(str(archive["about"]))
    for name in ("weight_decay", "decay_biases", "clip_norm", "clip_value", "nesterov"):
        del about[name]
    replace_member(path, "about.npy", npy(np.array(json.dumps(about))))
    assert_goes_on(path, expected, **settings)
    for changes in ({"weight_decay": 0.1}, {"nesterov": True}, {"clip_norm": 1.0}):
        training = trainer(**settings | {"optimizer_param": {"lr": 0.01, **changes}})
        with pytest.raises(
            ValueError, match=r"(weight_decay 0\.0|nesterov False|clip_norm None) in"
        ):
            training.load_checkpoint(path)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_going_on_in_every_dtype(tmp_path: Path, dtype: DType) -> None:
    expected, first = trainer(network(dtype=dtype)), trainer(network(dtype=dtype))
    expected.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    assert_goes_on(tmp_path / "checkpoint", expected, dtype=dtype)


def test_checkpoint_after_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    training = trainer(checkpoint=path)
    for _ in range(3):
        training.train_step()
    assert not path.exists()  # it is train that writes it
    training.epochs = 2
    training.train()
    content = path.read_bytes()
    training.epochs = 3
    training.train()
    assert path.read_bytes() != content
    resumed = trainer()
    resumed.load_checkpoint(path)
    assert everything(resumed) == everything(training)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_going_on_with_more_epochs(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    trainer(schedule="constant", checkpoint=path).train()
    expected = trainer(schedule="constant", epochs=5)
    expected.train()
    assert_goes_on(path, expected, schedule="constant", epochs=5)


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_generators_of_every_kind(tmp_path: Path, kind: Any) -> None:
    """A network accepts any generator, even one whose state contains arrays."""

    def seed() -> np.random.Generator:
        return np.random.Generator(kind(1))

    expected, first = trainer(network(seed())), trainer(network(seed()))
    expected.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    resumed = trainer(network(seed()))
    resumed.load_checkpoint(tmp_path / "checkpoint")
    resumed.train()
    assert everything(resumed) == everything(expected)


@pytest.mark.parametrize("within", [False, True], ids=["alone", "within"])
def test_dropout_with_a_generator_of_its_own(tmp_path: Path, within: bool) -> None:
    """In the network, or in a network within it."""

    def net() -> Sequential:
        dropout = Dropout(0.5, rng=np.random.default_rng(3))
        if not within:
            return Sequential((1, SIZE, SIZE), seed=1).affine(8).add(dropout).affine(CLASSES)
        inner = Sequential((1, SIZE, SIZE), seed=2).affine(8).add(dropout, Dropout(0.2))
        return Sequential((1, SIZE, SIZE), [inner], seed=1).affine(CLASSES)

    expected, first, resumed = trainer(net()), trainer(net()), trainer(net())
    expected.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    resumed.load_checkpoint(tmp_path / "checkpoint")
    resumed.train()
    assert everything(resumed) == everything(expected)


@pytest.mark.parametrize("step", [0, 1, 4, 8])
def test_going_on_with_augmented_images(tmp_path: Path, step: int) -> None:
    """Augmentation draws from the trainer's generator, whose state is in the checkpoint."""
    augment = Compose(RandomShift(1), RandomFlip())
    expected, first = trainer(augment=augment), trainer(augment=augment)
    expected.train()
    for _ in range(step):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    assert_goes_on(tmp_path / "checkpoint", expected, augment=Compose(RandomShift(1), RandomFlip()))
    plain = trainer()
    plain.train()
    assert bits(plain.network.params) != bits(expected.network.params)


def test_going_on_with_a_function_that_augments(tmp_path: Path) -> None:
    """What a function is called must be the same, where it lies in memory need not."""

    def augment() -> Any:
        return Compose(lambda images, rng: images + rng.random(images.shape, np.float32))

    expected, first = trainer(augment=augment()), trainer(augment=augment())
    assert repr(expected.augment) != repr(first.augment)
    expected.train()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    assert_goes_on(tmp_path / "checkpoint", expected, augment=augment())


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, RandomShift(1), "it has augment None instead of RandomShift(1)"),
        (RandomShift(1), None, "it has augment RandomShift(1) instead of None"),
        (RandomShift(1), RandomShift(2), "augment RandomShift(1) instead of RandomShift(2)"),
    ],
)
def test_going_on_with_another_augmentation(
    tmp_path: Path, before: Any, now: Any, words: str
) -> None:
    trainer(augment=before).save_checkpoint(tmp_path / "checkpoint")
    resumed = trainer(augment=now)
    start = everything(resumed)
    with pytest.raises(ValueError, match=re.escape(words)):
        resumed.load_checkpoint(tmp_path / "checkpoint")
    assert everything(resumed) == start


def test_checkpoint_of_a_version_without_augmentation(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    trainer().save_checkpoint(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    about = json.loads(str(arrays["about"]))
    assert about.pop("augment") is None
    np.savez(path, **{**arrays, "about": np.array(json.dumps(about))})
    trainer().load_checkpoint(path)


def test_learning_rates_that_are_numpy_scalars(tmp_path: Path) -> None:
    param = {"lr": np.float32(0.01)}
    expected = trainer(optimizer_param=param)
    expected.train()
    first = trainer(optimizer_param=param)
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    assert_goes_on(tmp_path / "checkpoint", expected, optimizer_param=param)


def deeper() -> Sequential:
    return network().affine(CLASSES)


def shallower() -> Sequential:
    net = Sequential((1, SIZE, SIZE)).convolution(4, 3, pad=1).batch_normalization()
    return net.add(Relu(), Pooling(2, 2, stride=2)).affine(8)


OTHER_TRAININGS: dict[str, tuple[Callable[[], Trainer], str]] = {
    "another optimizer": (
        lambda: trainer(optimizer="Momentum"),
        "is not a checkpoint of this training: it has .*optimizer Adam instead of Momentum",
    ),
    "another batch size": (
        lambda: trainer(mini_batch_size=9),
        "is not a checkpoint of this training: it has mini_batch_size 8 instead of 9$",
    ),
    "another number of images": (
        lambda: trainer(data=(*images(24), *images(10))),
        "is not a checkpoint of this training: it has images 23 instead of 24, checksum",
    ),
    "another learning rate": (
        lambda: trainer(optimizer_param={"lr": 0.02}),
        r"is not a checkpoint of this training: it has lr 0\.01 instead of 0\.02$",
    ),
    "another argument of the rule": (
        lambda: trainer(optimizer_param={"lr": 0.01, "beta1": 0.5}),
        r"is not a checkpoint of this training: it has beta1 0\.9 instead of 0\.5$",
    ),
    "another schedule": (
        lambda: trainer(schedule="constant"),
        "is not a checkpoint of this training: it has schedule cosine instead of constant$",
    ),
    "several": (
        lambda: trainer(schedule="constant", mini_batch_size=9),
        "mini_batch_size 8 instead of 9, schedule cosine instead of constant$",
    ),
    "a wider network": (
        lambda: trainer(network(filters=5)),
        r"is not a checkpoint of this training: network/W1 must be of shape \(5, 1, 3, 3\) and "
        r"float32, got "
        r"\(4, 1, 3, 3\)",
    ),
    "a network with more layers": (
        lambda: trainer(deeper()),
        "is not a checkpoint of this training: .*W4",
    ),
    "a network with fewer layers": (
        lambda: trainer(shallower()),
        "is not a checkpoint of this training: ",
    ),
}


@pytest.mark.parametrize("progress", [0, 4])
@pytest.mark.parametrize(("other", "message"), OTHER_TRAININGS.values(), ids=OTHER_TRAININGS.keys())
def test_checkpoint_of_another_training(
    tmp_path: Path, other: Callable[[], Trainer], message: str, progress: int
) -> None:
    path = tmp_path / "checkpoint"
    first = trainer()
    for _ in range(5):
        first.train_step()
    first.save_checkpoint(path)
    training = other()
    for _ in range(progress):
        training.train_step()
    before = everything(training)
    with pytest.raises(ValueError, match=message) as caught:
        training.load_checkpoint(path)
    assert str(caught.value).startswith(f"Trainer: {path}")
    assert everything(training) == before


@pytest.mark.parametrize("name", ["SGD", "AdaGrad", "RMSprop", "Momentum"])
def test_checkpoint_of_a_rule_with_other_arguments(tmp_path: Path, name: str) -> None:
    trainer(optimizer=name).save_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=f"optimizer {name} instead of Adam"):
        trainer().load_checkpoint(tmp_path / "checkpoint")


def test_checkpoint_with_another_generator_changes_nothing(tmp_path: Path) -> None:
    first = trainer()
    first.train()
    first.save_checkpoint(tmp_path / "checkpoint")
    training = trainer(network(np.random.Generator(np.random.SFC64(1))))
    before = everything(training)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "checkpoint"))):
        training.load_checkpoint(tmp_path / "checkpoint")
    assert everything(training) == before


def test_parameters_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "params.npz"
    network(seed=5).save_params(path)
    training = trainer()
    before = everything(training)
    with pytest.raises(ValueError, match="is not a checkpoint of this training"):
        training.load_checkpoint(path)
    assert everything(training) == before


def test_checkpoint_is_no_file_of_parameters(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    trainer().save_checkpoint(path)
    net = network(seed=5)
    before = bits(net.state)
    with pytest.raises(ValueError, match="is of another network"):
        net.load_params(path)
    assert bits(net.state) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an .npz file"),
        (b"Hello, world", "is not an .npz file"),
        (b"PK\x03\x04 and nothing else", "is damaged"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    training = trainer()
    before = everything(training)
    with pytest.raises(ValueError, match=re.escape(f"{path} {words}")):
        training.load_checkpoint(path)
    assert everything(training) == before


def _truncations(content: bytes) -> Iterator[bytes]:
    for length in range(0, len(content), 37):
        yield content[:length]


def _changes(content: bytes) -> Iterator[bytes]:
    directory = content.index(b"PK\x01\x02")
    for place in (*range(0, directory, 29), *range(directory, len(content))):
        for bit in (0, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            yield bytes(damaged)


def _some_changes(content: bytes) -> Iterator[bytes]:
    return islice(_changes(content), 0, None, 17)


@pytest.mark.parametrize(
    "damage", [_truncations, _some_changes, pytest.param(_changes, marks=pytest.mark.exhaustive)]
)
def test_damaged_checkpoint(tmp_path: Path, damage: Callable[[bytes], Iterator[bytes]]) -> None:
    """A changed checkpoint raises a ValueError without effect, or makes no difference."""
    path = tmp_path / "checkpoint"
    first = trainer()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(path)
    expected, training = everything(first), trainer()
    before = everything(training)
    for content in damage(path.read_bytes()):
        path.write_bytes(content)
        try:
            training.load_checkpoint(path)
        except ValueError as error:
            assert str(error).startswith(f"Trainer: {path}")  # noqa: PT017
            assert everything(training) == before
        else:
            assert everything(training) == expected
            training = trainer()


def test_checkpoint_that_lacks_a_part(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    first, training = trainer(), trainer()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(path)
    with np.load(path) as archive:
        parts = dict(archive)
    before = everything(training)
    lacking = [{key: parts[key] for key in parts if key != name} for name in parts]
    shorter = [{**parts, name: parts[name][:-1]} for name in ("order", "losses")]
    for content in lacking + shorter:
        np.savez(path, allow_pickle=False, **content)
        with pytest.raises(ValueError, match="is not a checkpoint of this training: "):
            training.load_checkpoint(path)
        assert everything(training) == before


MANY = 1 << 22  # float64, which take 32 MiB and zipped 32 KiB
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "about": (
        "about.npy",
        lambda: npy(np.array(" " * 2 * MANY)),
        "is damaged: about is larger than the whole file of ",
    ),
    "losses": (
        "losses.npy",
        lambda: npy(np.zeros(MANY)),
        "is damaged: losses is larger than the whole file of ",
    ),
    "losses of another kind": (
        "losses.npy",
        lambda: npy(np.array(["1.0"] * 4)),
        re.escape("losses must be a row of float64, got (4,) of <U3"),
    ),
    "order": (
        "order.npy",
        lambda: npy(np.zeros(MANY, int)),
        rf"order must be of shape \({COUNT},\) and int64, got \({MANY},\)",
    ),
    "network": (
        "network/W1.npy",
        lambda: npy(np.zeros(MANY)),
        rf"network/W1 must be of shape \(4, 1, 3, 3\) and float32, got \({MANY},\)",
    ),
    "optimizer": (
        "optimizer/v/b2.npy",
        lambda: npy(np.zeros(MANY), (8,)),
        rf"is damaged: optimizer/v/b2: its header announces 64 bytes, but {8 * MANY} follow",
    ),
    "one more": (
        "junk.npy",
        lambda: npy(np.zeros(MANY)),
        "is not a checkpoint of this training: it is of another network, which differs in junk$",
    ),
    "nested": ("about.npy", lambda: npy(np.array("[" * 10**5)), "is not a checkpoint of this"),
}


@pytest.mark.parametrize(("name", "make", "message"), BOMBS.values(), ids=BOMBS.keys())
def test_checkpoint_that_unpacks_to_too_much(
    tmp_path: Path, name: str, make: Callable[[], bytes], message: str
) -> None:
    """Its headers are refused before anything large is unpacked."""
    path = tmp_path / "checkpoint.npz"
    first, training = trainer(), trainer()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(path)
    content = make()
    method = zipfile.ZIP_STORED if content.count(b"[") > 10**5 - 1 else zipfile.ZIP_DEFLATED
    replace_member(path, name, content, method)
    before = everything(training)
    with memory_bounded(4 << 20), pytest.raises(ValueError, match=message) as caught:
        training.load_checkpoint(path)
    assert str(caught.value).startswith(f"Trainer: {path}")
    assert everything(training) == before


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        trainer().load_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("target", ["file/checkpoint", "missing/checkpoint", "folder"])
def test_checkpoint_that_cannot_be_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    training = trainer(checkpoint=tmp_path / target)
    with pytest.raises(OSError, match=target.split("/")[0]):
        training.train()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "precious"
    # Nothing is lost: it goes on with another path.
    training.checkpoint = tmp_path / "checkpoint"
    training.train()
    expected = trainer()
    expected.train()
    assert everything(training) == everything(expected)


def test_old_checkpoint_survives_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint"
    training = trainer()
    training.save_checkpoint(path)
    content = path.read_bytes()

    def full(file: Any, *args: Any, **kwargs: Any) -> None:
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    training.train_step()
    with pytest.raises(OSError, match="No space left"):
        training.save_checkpoint(path)
    assert path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


# --- Pickles of earlier versions ------------------------------------------------------------

PICKLED = (
    "c-pO2Yitx%6rO!_ce@l@3N}1KtVEzFRC%N!720AU6}AqwK<W?8bY^F|cj(T8d6exEVyhM?UZSyAe-JQeVib%PE0S1hfk"
    "c52O!#9A;tvpGjNlIq2}X!|?w#H3W7}ekv$?Z(&OP_sdtTo;UBNd8ia7S*xox8D#0|Zp(y>HUSM@}tz-Ed?aCmEG)<>3"
    "flij2Ohjqo-X;|$9&&zGp3|UFqm4dD8a24HA#U#PeEh8Vf&4sFNx{e^L8j1O0{+NF+FdD9tBl>#?E|8s0Q-Oco)y&S^c"
    "OSw2wpFBe-(J#8Dq;cbTSIuB-}E;;>=ol2BH@6gCkUR!_EuV=E*n~<V5;%<B#0~#goFa>h>l?iad?4LGzZTT1W9%Bm+;"
    "JSV&aLaRdAuE`Ud##BRy~vs@C)|yK@Y<z;;AOp)6?8{u%e~)_hg}$HN;=|Nh>w;g=gPaX6srak9VUsGV9rw6goTm*(E7"
    "zWUvPbuNw~(H2})cUG<dL*WRWDhY7I{(@9`#bwULbI06l-1+ka!R$;4uI}kAY*7^1b4Q%o5j}>B#*sEHc=wk8?^%|Mak"
    "$JAFT@Q?snpygxY4pia7K|}Dd2P4vD~;rWtBig$lhWfiE%xo-X{@HkS`YOA*dAl-BE5sW%*9)tuG1Rtoy5~x@z-bZh(J"
    "3eeePSaxAz6-g}5d?TkZ7u~V^ZX7GY~2)pG37w1ASvxukB6(i|7s-cg>ov($URj7(y53SBzj^2;`9D*L~tq&gCe6g0Ei"
    "sAlw%rRe&$Mxs)?Vm8N5ST!f73!XVDaxQaj>u|KWCsH=l&}ofw3+*0U7$HaaD>@T)E$C-DZ*pF+``@x;av&Od`fiUh&L"
    "=vOsZ)nYB@n0acMq%M7M&3sA=L9S8g<Sdx`}m#hHrnY~9u&#u(8I4N}+DNJH(dOZ52~2NY1Iq2~CxJ4ZhI^#CriT%BTt"
    "pedq0h0LMrJ8PKCY1s`OqBRBo>KoCuj6bSp)Kz4#P{4NRU&Lq=Bx(z?4~Jw=aUKAIDMl?=(5xg~X0srjWvzsRnrOEZ-U"
    "i*)TZRdc!<fREj}dE5mpzJLQ8R=7*D^2}QS}bRa^N<-Xg1n_-k`^Y*R{0)JTh4!Z=Mr{_<SvcG5;Q>XZfMh^y$O94h`S"
    "#DLyS-{ibGc`N}V}>!G!m@74@0dv(SzwE^0eFTwBGDRQp0Y|Z)BGUhKN@wmjW)P$;wNg*ZJNCdp(QJhCI+|tD%Q?x|Qo"
    "(QtpisG=`i8hUVWDOS<%%m7sytMPTfTkbekkCYFqe75nA3=?{P;?+IBo|N*Q3LrU*l{vrkk3&g8bsTG9Ad5;vxH!2JM|"
    "#-W!}mTDywD1X!2nodq?Dv;Rx53&?3~&$Y>yU`LS2|zi&8wbW-GTq=BPoR2JkhbpHn>aWn}o6*3Okh>N!vZH^|UT2u!$"
    "8n!(O13MvA0PJ`iOwt7&6|)fb!i6~)J)Nz}NXg9(<Ys-j*+KMxiz5OQ2`K}~5bfLcK>e;j+tCh`M%@k|pNk6xd#4Kd3T"
    "g8iFe#|-b$VvX>o6t)<)C+n2g-F`@^!6+R}IJ2!RUf<1jZQ{*I;n999IIP9L5tc>R>d%XoX>VxEFRNJ1$$G)YbPZP~}|"
    "a@o{6H?6+4GKrzLpHV!$tnPM7o1cktlqYS$Q8$gYI78<6bYVZLid;SDnSZ*0|GxAIpl5-CACoRCISJKxTKAyD;2UW;h0"
    "&P*ST`?V+y1owPm=pJ{e09x>`x%a$njDuegwGylJj0XoymdQpit(JCoacmG?D2d#6*{KwHC3nYH4VP_&R{i+!RW$)>d3"
    "-@!M8s+S`A~6NjN__I{p~FQvFl(3gdHal**Mc2);t4Lrl7&!|F=Jrm^WlZ-_)327s3gTOqwT3gmdZX+Ylvi833_L-SF2"
    "rrkr2WE(uR$ZPFN`Y$e>x%44-&WGQA|7`8i<^`x?g02oNiTTi@n@%o%GU%dZ=<#tq*TlhD^RIfN0>hFOYvTCc9)=JFn+"
    "7t0>YpT#y;MP}4J~9Rd4V7f7i^%RI|}DnDASfE%A!<YK+;fqGjyw!*2qGSD#qhL{5e}VX&x{dz>SEDM|KKHI1EmzXsG>"
    "dV`&#KH`LzP_30Tl`C)JW5tt}=8tr{8%Qac;b*0LG08TXQGy"
)
"""A trainer as the version before this test pickled it, after three of four steps."""


@pytest.mark.skipif(
    np.__version__ < "2", reason="NumPy 1 does not read the generators that NumPy 2 pickles"
)
def test_pickles_of_earlier_versions() -> None:
    """They name modules within the library: what they name must stay where it was."""
    training: Trainer = pickle.loads(zlib.decompress(base64.b85decode(PICKLED)))
    net: Any = training.network
    assert [type(epoch) for epoch in training.history] == [Epoch]
    assert list(net.state) == [
        *("W1", "b1", "gamma1", "beta1", "running_mean1", "running_var1", "W2", "b2")
    ]
    training.train()
    expected = [1.0803399085998535, 0.608850359916687, 0.5790632367134094, 0.5371586680412292]
    np.testing.assert_allclose(training.train_loss_list, expected, rtol=1e-5)
    scores = net.predict(training.x_train[:1])
    np.testing.assert_allclose(scores, [[0.010386879, -0.027142258]], rtol=1e-4)
    again = pickle.loads(pickle.dumps(training))
    assert again.history == training.history
    assert_same(again.network.predict(training.x_train[:1]), scores)


# --- Interruptions --------------------------------------------------------------------------


class Interrupted:
    """Let a network's gradient raise SIGINT, once or twice, in one of the steps."""

    def __init__(self, net: Any, step: int, times: int = 1) -> None:
        self.gradient, self.step, self.times, self.calls = net.gradient, step, times, 0

    def __call__(self, x: Array, t: Array) -> Any:
        self.calls += 1
        if self.calls == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return self.gradient(x, t)


def interrupted(step: int, times: int = 1, **changes: Any) -> Trainer:
    net: Any = network()
    net.gradient = Interrupted(net, step, times)
    return trainer(net, **changes)


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize("step", [1, 3, 5])
def test_interrupt_lets_the_step_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    path = tmp_path / "checkpoint"
    training = interrupted(step, checkpoint=path, verbose=True)
    training.train()
    assert training.interrupted
    assert len(training.train_loss_list) == step
    assert capsys.readouterr().err.splitlines()[step // 3 :] == [
        f"interrupted after {step} of 9 steps, {step // 3} of 3 epochs"
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    expected = trainer()
    expected.train()
    assert_goes_on(path, expected)
    training.train()
    assert not training.interrupted
    assert everything(training) == everything(expected)


@pytest.mark.usefixtures("sigint")
def test_interrupt_without_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    training = interrupted(2)
    training.train()
    assert training.interrupted
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("sigint")
def test_second_interrupt_interrupts_at_once(tmp_path: Path) -> None:
    training = interrupted(2, times=2, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        training.train()
    assert len(training.train_loss_list) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("sigint")
def test_handler_is_restored() -> None:
    def handler(*_: Any) -> None:
        raise AssertionError("the handler of others is not to be called")

    signal.signal(signal.SIGINT, handler)
    trainer().train()
    assert signal.getsignal(signal.SIGINT) is handler
    interrupted(2).train()
    assert signal.getsignal(signal.SIGINT) is handler
    net: Any = network()
    training = trainer(net)
    net.gradient = None
    with pytest.raises(TypeError, match="not callable"):
        training.train()
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.usefixtures("sigint")
def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    training = interrupted(2)
    training.train()
    assert not training.interrupted
    assert len(training.train_loss_list) == 9
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_training_in_another_thread() -> None:
    expected, training = trainer(), trainer()
    expected.train()
    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=training.train)
    thread.start()
    thread.join(60)
    assert everything(training) == everything(expected)
    assert signal.getsignal(signal.SIGINT) == handler


LONG = 100  # epochs


def train_slowly(path: str) -> None:
    """Train with a line and a pause in every step; what the interrupted process runs."""
    net: Any = network()
    gradient = net.gradient

    def slow_gradient(x: Array, t: Array) -> Any:
        print("step", flush=True)
        time.sleep(0.01)
        return gradient(x, t)

    net.gradient = slow_gradient
    training = trainer(net, epochs=LONG, checkpoint=path)
    training.train()
    restored = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    print(f"interrupted {training.interrupted}, restored {restored}")


def child(code: str) -> dict[str, Any]:
    """Give the arguments of a process that can import this file."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    return {
        "args": [sys.executable, "-c", f"import test_training; test_training.{code}"],
        "env": {**os.environ, "PYTHONPATH": path},
        "text": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    }


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupted_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with subprocess.Popen(
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **child(f"train_slowly({str(path)!r})")
    ) as process:
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 0
    assert output.splitlines()[-1] == "interrupted True, restored True"
    resumed, expected = trainer(network(seed=99), epochs=LONG), trainer(epochs=LONG)
    resumed.load_checkpoint(path)
    assert 8 <= len(resumed.train_loss_list) < 3 * LONG
    resumed.train()
    expected.train()
    assert everything(resumed) == everything(expected)


# --- Errors ---------------------------------------------------------------------------------

X, T = images()
X_TEST, T_TEST = images(10, seed=1)


def spoiled(array: Array, value: Any) -> Array:
    array = array.copy()
    array.flat[-1] = value
    return array


def _one_hot_with_two() -> Array:
    rows = np.eye(CLASSES, dtype=int)[T]
    rows[4] = 1
    return rows


BAD_LABELS: dict[str, tuple[type[Exception], Any, str]] = {
    "too large": (ValueError, spoiled(T, CLASSES), "labels in t must be from 0 to 2, got 0 to 3"),
    "negative": (ValueError, spoiled(T, -1), "labels in t must be from 0 to 2, got -1 to 2"),
    "floats": (TypeError, T.astype(np.float64), "labels in t must be integers or one-hot"),
    "texts": (TypeError, T.astype(str), "t"),
    "too few": (ValueError, T[:-1], "t must have shape (23,), (23, 1) or (23, 3) for 23 images"),
    "too many": (ValueError, np.append(T, 0), "t must have shape (23,)"),
    "a number": (ValueError, 1, "got ()"),
    "none": (ValueError, T[:0], "got (0,)"),
    "other shape": (ValueError, T[:, None, None], "got (23, 1, 1)"),
    "other classes": (ValueError, np.eye(4)[T], "got (23, 4)"),
    "two of one image": (ValueError, _one_hot_with_two(), "not one 1 in every row"),
    "probabilities": (ValueError, np.full((COUNT, CLASSES), 1 / 3), "not one 1 in every row"),
}

SHAPE_ERROR = "x must have shape (N, 1, 6, 6) for this network, got"
BAD_IMAGES: dict[str, tuple[type[Exception], Any, str]] = {
    "NaN": (ValueError, spoiled(X, np.nan), "x_{part} must be finite, it holds NaN or infinity"),
    "infinity": (ValueError, spoiled(X, np.inf), "x_{part} must be finite"),
    "-infinity": (ValueError, spoiled(X, -np.inf), "x_{part} must be finite"),
    "none": (ValueError, X[:0], "x_{part} must hold images, got shape (0, 1, 6, 6)"),
    "a number": (ValueError, 1.0, "x_{part} must hold images, got shape ()"),
    "other size": (
        ValueError,
        np.zeros((COUNT, 1, 6, 7)),
        "x_{part} of shape (23, 1, 6, 7) does not fit the network: " + SHAPE_ERROR,
    ),
    "other channels": (ValueError, np.zeros((COUNT, 3, 6, 6)), f"{SHAPE_ERROR} (1, 3, 6, 6)"),
    "rows": (ValueError, X.reshape(COUNT, -1), f"{SHAPE_ERROR} (1, 36)"),
    "one image": (ValueError, X[0], f"{SHAPE_ERROR} (1, 6, 6)"),
}


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(("kind", "labels", "words"), BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_bad_labels(kind: type[Exception], labels: Any, words: str, part: str) -> None:
    data = (X, labels, X_TEST, T_TEST) if part == "train" else (X_TEST, T_TEST, X, labels)
    net = network()
    before = bits(net.state)
    with pytest.raises(kind, match=re.escape(words)) as caught:
        trainer(net, data=data)
    assert str(caught.value).startswith(f"Trainer: t_{part} does not fit: ")
    assert bits(net.state) == before


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(("kind", "x", "words"), BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_bad_images(kind: type[Exception], x: Any, words: str, part: str) -> None:
    data = (x, T, X_TEST, T_TEST) if part == "train" else (X_TEST, T_TEST, x, T)
    net = network()
    before = bits(net.state)
    with pytest.raises(kind, match=re.escape(words.format(part=part))):
        trainer(net, data=data)
    assert bits(net.state) == before


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be a positive int, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be a positive int"),
        ({"mini_batch_size": 0}, ValueError, "mini_batch_size must be a positive int, got 0"),
        (
            {"evaluate_sample_num_per_epoch": -1},
            ValueError,
            "evaluate_sample_num_per_epoch must be a positive int, got -1",
        ),
        (
            {"schedule": "linear"},
            ValueError,
            "schedule must be one of 'constant', 'cosine', 'step' or a function of progress, "
            "got 'linear'",
        ),
        (
            {"optimizer": "Newton"},
            ValueError,
            "optimizer must be one of SGD, Momentum, AdaGrad, RMSprop, Adam, AdamW, got 'Newton'",
        ),
        (
            {"optimizer": SGD(), "optimizer_param": {"lr": 0.1}},
            ValueError,
            "optimizer_param is for an optimizer that is given by its name",
        ),
        ({"optimizer_param": {"lr": -1}}, ValueError, "lr must be a positive number, got -1"),
        ({"optimizer_param": {"speed": 1}}, TypeError, "speed"),
        (
            {"augment": "flip"},
            TypeError,
            "augment must be a callable of images and rng, got 'flip'",
        ),
    ],
)
def test_bad_arguments(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        trainer(**changes)


def diverging(name: str, lr: float, batch: int, path: Path) -> tuple[Sequential, Trainer]:
    """Make a trainer without batch normalisation, which would put large numbers right."""
    net = Sequential((1, SIZE, SIZE), seed=1).convolution(4, 3).add(Relu()).affine(8).affine(3)
    return net, trainer(
        net,
        optimizer=name,
        optimizer_param={"lr": lr},
        schedule="constant",
        mini_batch_size=batch,
        epochs=20,
        checkpoint=path,
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("batch", [8, 100], ids=["many steps", "one step"])
@pytest.mark.parametrize("lr", [1e30, 1e39, 1e300])
@pytest.mark.parametrize("name", RULES)
def test_diverging(tmp_path: Path, name: str, lr: float, batch: int) -> None:
    """No file with NaN or infinity is left."""
    path = tmp_path / "checkpoint"
    _, training = diverging(name, lr, batch, path)
    message = (
        r"(the loss is (nan|inf)|\w+ holds NaN or infinity) after \d+ steps?: "
        "try a smaller learning rate than "
    )
    with pytest.raises(FloatingPointError, match=message + re.escape(str(lr))):
        training.train()
    assert np.isfinite(training.train_loss_list).all()
    if path.exists():
        with np.load(path) as archive:
            for key in archive.files:
                if key != "about":
                    assert np.isfinite(archive[key]).all(), key


@pytest.mark.parametrize("batch", [8, 100], ids=["many steps", "one step"])
@pytest.mark.parametrize("lr", [1e30, 1e39])
@pytest.mark.parametrize("name", RULES)
def test_diverging_is_an_error_without_warnings(
    tmp_path: Path, name: str, lr: float, batch: int
) -> None:
    _, training = diverging(name, lr, batch, tmp_path / "checkpoint")
    with pytest.raises(FloatingPointError):
        training.train()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_diverging_leaves_an_earlier_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    arguments: dict[str, Any] = {"optimizer": "SGD", "optimizer_param": {"lr": 1e30}}
    training = trainer(checkpoint=path, **arguments)
    training.save_checkpoint(path)
    before, content = everything(training), path.read_bytes()
    with pytest.raises(FloatingPointError, match="after 1 steps: "):
        training.train()
    assert path.read_bytes() == content
    resumed = trainer(network(seed=99), **arguments)
    resumed.load_checkpoint(path)
    assert everything(resumed) == before


# --- Networks of others ---------------------------------------------------------------------


class TwoLayerNet:
    """A network as the textbook's chapter 5 writes it: a plain dict, and layers that share it."""

    def __init__(self, seed: int = 1, hidden_size: int = 12) -> None:
        random = np.random.default_rng(seed)
        self.params = {
            "W1": 0.1 * random.standard_normal((SIZE * SIZE, hidden_size)),
            "b1": np.zeros(hidden_size),
            "W2": 0.1 * random.standard_normal((hidden_size, CLASSES)),
            "b2": np.zeros(CLASSES),
        }
        self.layers: dict[str, Any] = {
            "Affine1": Affine(self.params["W1"], self.params["b1"]),
            "Relu1": Relu(),
            "Affine2": Affine(self.params["W2"], self.params["b2"]),
        }
        self.last_layer = SoftmaxWithLoss()

    def predict(self, x: Array) -> Array:
        x = x.reshape(len(x), -1)
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x: Array, t: Array) -> Any:
        return self.last_layer.forward(self.predict(x), t)

    def accuracy(self, x: Array, t: Array) -> float:
        return float(np.sum(self.predict(x).argmax(axis=1) == t) / len(x))

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        self.loss(x, t)
        dout: Array = self.last_layer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        return {
            f"{kind}{i}": getattr(self.layers[f"Affine{i}"], f"d{kind}")
            for kind in "Wb"
            for i in (1, 2)
        }


@pytest.mark.parametrize("name", RULES)
def test_textbooks_network_trains(name: str) -> None:
    net = TwoLayerNet()
    arrays = dict(net.params)
    training = trainer(net, optimizer=name, optimizer_param={"lr": 0.05}, epochs=40)
    training.train()
    assert training.train_acc_list[-1] == 1
    for key, array in arrays.items():
        assert net.params[key] is array


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("step", [4, 6])
def test_textbooks_network_goes_on(tmp_path: Path, name: str, step: int) -> None:
    """The layers share the arrays of the dict, even after a checkpoint was loaded."""
    path = tmp_path / "checkpoint"
    expected, first = trainer(TwoLayerNet(), optimizer=name), trainer(TwoLayerNet(), optimizer=name)
    expected.train()
    for _ in range(step):
        first.train_step()
    first.save_checkpoint(path)
    net = TwoLayerNet(seed=99)
    resumed = trainer(net, optimizer=name, seed=99)
    resumed.load_checkpoint(path)
    for i in (1, 2):
        assert net.layers[f"Affine{i}"].W is net.params[f"W{i}"]
        assert net.layers[f"Affine{i}"].b is net.params[f"b{i}"]
    np.testing.assert_array_equal(net.predict(X), first.network.predict(X))
    resumed.train()
    assert everything(resumed) == everything(expected)
    np.testing.assert_array_equal(net.predict(X), expected.network.predict(X))


def test_textbooks_network_refuses_another(tmp_path: Path) -> None:
    trainer(TwoLayerNet()).save_checkpoint(tmp_path / "checkpoint")
    training = trainer(TwoLayerNet(hidden_size=13))
    before = everything(training)
    with pytest.raises(ValueError, match=r"W1 must be of shape \(36, 13\)"):
        training.load_checkpoint(tmp_path / "checkpoint")
    assert everything(training) == before


# --- Progress -------------------------------------------------------------------------------

LINE = r"epoch {} of 3: loss \d\.\d{{4}}, train \d+\.\d\d%, test \d+\.\d\d%"


def assert_lines(text: str, first: int = 1) -> None:
    lines = text.splitlines()
    assert len(lines) == 4 - first
    for epoch, line in enumerate(lines, first):
        assert re.fullmatch(LINE.format(epoch), line)


def test_a_line_for_every_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    training = trainer(verbose=True)
    training.train()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_lines(captured.err)
    last = training.history[-1]
    assert captured.err.splitlines()[-1] == (
        f"epoch 3 of 3: loss {last.train_loss:.4f}, train {last.train_acc:.2%}, "
        f"test {last.test_acc:.2%}"
    )


def test_lines_of_a_training_that_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer()
    for _ in range(4):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint")
    training = trainer(verbose=True)
    training.load_checkpoint(tmp_path / "checkpoint")
    training.train()
    assert_lines(capsys.readouterr().err, first=2)


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    trainer(verbose=False).train()
    assert capfd.readouterr() == ("", "")


def on_a_terminal(code: str) -> str:
    """Run code with standard error on a pseudo-terminal; returns what it shows."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals")
    termios = pytest.importorskip("termios", reason="there are no pseudo-terminals")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    shown = b""
    with subprocess.Popen(stdout=subprocess.PIPE, stderr=slave, **child(code)) as process:
        os.close(slave)
        while True:
            try:
                part = os.read(master, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
        os.close(master)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert output == ""
    return shown.decode()


def test_bar_on_a_terminal() -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed, so there is no bar")
    shown = on_a_terminal("trainer(verbose=True).train()")
    assert "step/s" in shown or "s/step" in shown
    assert re.search(r"\d+%\|", shown)
    assert "/9 [" in shown
    assert "epoch 3 of 3, test " in shown
    assert "Traceback" not in shown


def test_lines_on_a_terminal_without_tqdm() -> None:
    shown = on_a_terminal("sys.modules['tqdm'] = None; test_training.trainer(verbose=True).train()")
    assert_lines(shown)


def test_quiet_on_a_terminal() -> None:
    assert on_a_terminal("trainer(verbose=False).train()") == ""


# --- The history's file ---------------------------------------------------------------------


def test_history_reads_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("old")
    training = trainer()
    training.train()
    training.write_history(path)
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(Epoch)]
    read = [
        Epoch(int(row.pop("epoch")), **{key: float(value) for key, value in row.items()})
        for row in rows
    ]
    assert read == training.history


def test_history_of_no_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    trainer().write_history(path)
    assert path.read_text() == "epoch,train_loss,train_acc,test_acc\n"


def test_history_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        trainer().write_history(tmp_path / "missing" / "history.csv")
    assert list(tmp_path.iterdir()) == []
