"""The command ``fastconv train``: what it prints and writes, going on, and refusing."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import CommandResult
from numpy.typing import NDArray

import fastconv
from fastconv._commands import train as train_command
from fastconv.datasets import load_digits
from fastconv.models import Sequential, SimpleConvNet
from fastconv.training import Trainer

Array = NDArray[Any]

COMMAND = [sys.executable, "-m", "fastconv", "train", "--threads", "1"]
RESULTS = ["checkpoint.npz", "history.csv", "params.npz"]
PICTURES = ["filters.png", "learning-curve.png", "misclassified.png"]
FEW_IMAGES = ["--batch-size", "10", "--epochs", "2"]
FOUR_EPOCHS = ["--batch-size", "50", "--epochs", "4"]


Train = Callable[..., CommandResult]

THREADS = fastconv.get_num_threads()  # what the environment allows


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Leave the other processor to other tests' threads, which may still wait."""
    with fastconv.num_threads(1):
        yield


@pytest.fixture
def train(command: Callable[..., CommandResult]) -> Train:
    return partial(command, "train")


def assert_refused(result: CommandResult, *words: str) -> None:
    result.assert_refused("train", *words)
    for name in ("load_mnist", "Trainer", "Sequential", "DeepConvNet"):
        assert f"{name}: " not in result.err  # Who runs a command has called no function.


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Collect what the files hold and when they were written."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


def arrays(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    with np.load(path) as archive:
        return {
            name: (archive[name].dtype.str, archive[name].shape, archive[name].tobytes())
            for name in archive.files
        }


def assert_same_results(folder: Path, other: Path) -> None:
    for name in ("params.npz", "checkpoint.npz"):
        assert arrays(folder / name) == arrays(other / name)
    assert (folder / "history.csv").read_bytes() == (other / "history.csv").read_bytes()


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def expected_names() -> list[str]:
    pictures = PICTURES if importlib.util.find_spec("matplotlib") else []
    return sorted(RESULTS + pictures)


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def write_data(
    folder: Path, part: str = "train", count: int = 60, size: int = 12, classes: int = 3
) -> None:
    """Write images whose class is the place of a bright row, and their labels."""
    random = np.random.default_rng(count)
    labels = (np.arange(count) % classes).astype(np.uint8)
    images = random.integers(0, 60, (count, size, size), np.uint8)
    images[np.arange(count), labels % size] = 255
    folder.mkdir(exist_ok=True)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """Train on the packaged digits, as a user does."""
    folder = tmp_path_factory.mktemp("trained") / "new" / "folder"
    command = [*COMMAND, *FOUR_EPOCHS, "--out", str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return folder, CommandResult(process.returncode, process.stdout, process.stderr)


# --- What it prints -------------------------------------------------------------------------


def percent_right(out: str, count: int) -> float:
    match = re.search(rf"^(\d+\.\d\d)% of {count} test images are right$", out, re.MULTILINE)
    assert match, out
    return float(match[1])


def test_digits(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = train("--threads", "1")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert re.split("  +", lines[0]) == ["epoch", "loss", "training images %", "test images %"]
    for epoch, line in enumerate(lines[2:32], 1):
        assert re.fullmatch(rf" *{epoch}  \d+\.\d{{4}} +\d+\.\d\d +\d+\.\d\d", line)
    assert re.fullmatch(
        r"SimpleConvNet\(input \(1, 8, 8\), output \(10,\), 6 layers, 49410 parameters\): trained, "
        r"\d+ steps, \d+\.\d s",
        lines[32],
    )
    assert len(lines) == 34
    right = percent_right(result.out, 359)
    assert right >= 97
    assert lines[31].endswith(f" {right:.2f}")
    progress = result.err.splitlines()
    assert len(progress) == 30
    for epoch, line in enumerate(progress, 1):
        assert re.fullmatch(
            rf"epoch {epoch} of 30: loss \d+\.\d{{4}}, train \d+\.\d\d%, test \d+\.\d\d%", line
        )
    assert names(tmp_path) == []


NETWORKS = {
    "simple": "SimpleConvNet(input (1, 28, 28)",
    "deep": "DeepConvNet(input (1, 28, 28)",
    "lenet": "LeNet(input (1, 28, 28)",
    "nin": "NIN(input (1, 32, 32)",
    "vgg11": "VGG(input (1, 32, 32)",
    "resnet20": "ResNet(input (1, 32, 32)",
    "resnet32": "ResNet(input (1, 32, 32)",
    "resnet44": "ResNet(input (1, 32, 32)",
    "resnet56": "ResNet(input (1, 32, 32)",
}
SLOW_NETWORKS = ("vgg11", "nin", "resnet32", "resnet44", "resnet56")
DEPTHS = {"resnet20": 269_434, "resnet32": 463_866, "resnet44": 658_298, "resnet56": 852_730}
"""Numbers of parameters, which differ from the paper's by two channels less at the input."""


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(name, marks=[pytest.mark.exhaustive] * (name in SLOW_NETWORKS))
        for name in NETWORKS
    ],
)
def test_networks(train: Train, tmp_path: Path, network: str) -> None:
    write_data(tmp_path / "data", size=28, count=20)
    out = tmp_path / "out"
    args = "--data", tmp_path / "data", "--network", network, "--out", out
    result = train(*args, "--batch-size", "8", "--epochs", "1", "--augment")
    assert result.code == 0, result
    assert f"\n{NETWORKS[network]}, output (10,), " in result.out
    assert "trained, 2 steps, " in result.out
    if network in DEPTHS:
        assert f" {DEPTHS[network]} parameters)" in result.out
    percent_right(result.out, 4)
    assert set(RESULTS) <= set(names(out)) <= set(RESULTS + PICTURES)
    if importlib.util.find_spec("matplotlib"):
        assert {"filters.png", "learning-curve.png"} < set(names(out))
    before = (out / "history.csv").read_text()
    result = train(*args, "--batch-size", "8", "--epochs", "1", "--augment", "--resume")
    assert result.code == 0, result  # The checkpoint is that of the same network and augmentation.
    assert (out / "history.csv").read_text() == before


class Settings(NamedTuple):
    """What a trainer was made with."""

    batch_size: int
    rule: str
    lr: float
    weight_decay: float
    schedule: str
    augment: str
    shape: tuple[int, ...]


class Seen(Exception):
    """Carries what the trainer of a command was."""


@pytest.fixture
def settings(train: Train, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Tell how the command would train, without training."""

    def stop(trainer: Trainer) -> None:
        raise Seen(trainer)

    monkeypatch.setattr(Trainer, "train", stop)

    def run(*args: str | Path) -> Settings:
        with pytest.raises(Seen) as seen:
            train(*args)
        trainer = seen.value.args[0]
        rule = trainer.optimizer
        return Settings(
            trainer.batch_size,
            type(rule).__name__,
            rule.lr,
            rule.weight_decay,
            repr(trainer.schedule),
            repr(trainer.augment),
            trainer.x_train.shape[1:],
        )

    return run


def test_every_network_has_its_defaults(settings: Callable[..., Settings]) -> None:
    cosine, warm = "Cosine(warmup=0.0)", "Cosine(warmup=0.1)"
    adam = Settings(32, "Adam", 0.002, 0.0, cosine, "None", (1, 8, 8))
    assert settings() == settings("--network", "deep") == adam
    residual = Settings(128, "Momentum", 0.1, 1e-4, warm, "None", (1, 32, 32))
    for depth in (20, 32, 44, 56):
        assert settings("--network", f"resnet{depth}") == residual
    padded = Settings(32, "Adam", 0.0003, 0.0, warm, "None", (1, 32, 32))
    assert settings("--network", "nin") == settings("--network", "vgg11") == padded


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        (["--batch-size", "7"], {"batch_size": 7}),
        (["--lr", "0.05"], {"lr": 0.05}),
        (["--weight-decay", "0"], {"weight_decay": 0.0}),
        (["--warmup", "0"], {"schedule": "Cosine(warmup=0.0)"}),
        (
            ["--schedule", "step"],
            {"schedule": "Step(milestones=(0.5, 0.75), gamma=0.1, warmup=0.1)"},
        ),
        (["--optimizer", "adam"], {"rule": "Adam", "lr": 0.002, "weight_decay": 0.0}),
        (["--optimizer", "adamw"], {"rule": "AdamW", "lr": 0.002, "weight_decay": 0.01}),
        (["--optimizer", "momentum"], {}),
        (["--momentum", "0.5", "--nesterov"], {}),
    ],
)
def test_defaults_can_be_replaced(
    settings: Callable[..., Settings], args: list[str], changes: dict[str, Any]
) -> None:
    network = "--network", "resnet20"
    assert settings(*network, *args) == settings(*network)._replace(**changes)


def test_larger_images_are_not_padded(settings: Callable[..., Settings], tmp_path: Path) -> None:
    write_data(tmp_path, size=36)
    args = "--data", tmp_path, "--network", "resnet20", "--augment"
    assert settings(*args).shape == (1, 36, 36)


@pytest.mark.parametrize(
    ("args", "size", "pixels"),
    [([], 28, 2), ([], 8, 1), (["3"], 28, 3), (["7"], 8, 7), ([], 100, 7)],
)
def test_augment(
    settings: Callable[..., Settings], tmp_path: Path, args: list[str], size: int, pixels: int
) -> None:
    write_data(tmp_path, size=size)
    for network in ("simple", "resnet20"):  # The size is that of the images before padding.
        found = settings("--data", tmp_path, "--network", network, "--augment", *args)
        assert found.augment == f"RandomShift({pixels})"


def test_augment_moves_images(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path)
    common = ["--data", tmp_path, *FEW_IMAGES]
    results = [train(*common, *more).err for more in ([], ["--augment"], ["--augment", "4"])]
    assert len(set(results)) == 3
    assert train(*common, "--augment", "1").err == results[1]  # 12 pixels are moved by 1.


def test_augment_must_leave_a_part_in_sight(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    args = "--data", tmp_path / "data", "--out", tmp_path / "out", "--network", "resnet20"
    words = "--augment 12 would move images of 12 x 12 pixels out of sight"
    assert_refused(train(*args, "--augment", "12"), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_optimizers(train: Train, tmp_path: Path, optimizer: str) -> None:
    write_data(tmp_path)
    result = train("--data", tmp_path, "--optimizer", optimizer, "--lr", "0.01", *FEW_IMAGES)
    assert result.code == 0, result


def test_settings_change_the_result(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path)
    common = ["--data", tmp_path, *FEW_IMAGES]
    first = train(*common).err
    assert train(*common).err == first
    for other in (
        ["--seed", "2"],
        ["--lr", "0.02"],
        ["--schedule", "constant"],
        ["--schedule", "step"],
        ["--warmup", "0.5"],
        ["--weight-decay", "0.5"],
        ["--clip-norm", "0.001"],
    ):
        assert train(*common, *other).err != first
    common += ["--optimizer", "momentum"]
    results = [
        train(*common, *other).err
        for other in ([], ["--momentum", "0.9"], ["--momentum", "0.5"], ["--nesterov"])
    ]
    assert results[0] == results[1]
    assert len(set(results)) == 3


@pytest.mark.parametrize("option", [["--momentum", "0.5"], ["--nesterov"]])
def test_momentum_is_for_momentum(train: Train, option: list[str]) -> None:
    assert_refused(train(*option), "--momentum and --nesterov need --optimizer momentum")


@pytest.mark.parametrize("option", ["--momentum", "--weight-decay", "--warmup"])
@pytest.mark.parametrize("value", ["-0.1", "1", "nan", "much", ""])
def test_bad_fractions(train: Train, option: str, value: str) -> None:
    result = train(f"{option}={value}")
    assert result.code == 2
    words = f"argument {option}: must be a number from 0 to less than 1, got '{value}'"
    assert words in result.err


def test_threads_do_not_change_the_result(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path)
    numbers = []

    def counted(trainer: Trainer) -> None:
        numbers.append(fastconv.get_num_threads())
        train_all(trainer)

    train_all = Trainer.train
    monkeypatch.setattr(Trainer, "train", counted)
    train("--data", tmp_path, "--threads", "2", "--out", tmp_path / "2", *FEW_IMAGES)
    train("--data", tmp_path, "--threads", "3", "--out", tmp_path / "3", *FEW_IMAGES)
    assert numbers == [2, 3]
    assert fastconv.get_num_threads() == 1
    assert_same_results(tmp_path / "2", tmp_path / "3")


def test_help(train: Train) -> None:
    result = train("--help")
    assert result.code == 0
    for word in ("--data", "--resume", "--overwrite", *RESULTS, *PICTURES, "130"):
        assert word in result.out


# --- What it writes -------------------------------------------------------------------------


def test_results(trained: tuple[Path, CommandResult]) -> None:
    folder, result = trained
    assert result.code == 0, result
    assert len(result.err.splitlines()) == 4
    assert result.out.splitlines()[-1] == f"written to {folder}"
    assert names(folder) == expected_names()


def test_history_is_what_is_printed(trained: tuple[Path, CommandResult]) -> None:
    folder, result = trained
    rows = history(folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    lines = result.err.splitlines()
    table = [line for line in result.out.splitlines() if re.match(r" *\d+  ", line)]
    for row, line, cells in zip(rows, lines, table, strict=True):
        loss, train, test = row["train_loss"], row["train_acc"], row["test_acc"]
        epoch = f"{row['epoch']:.0f}"
        assert line == f"epoch {epoch} of 4: loss {loss:.4f}, train {train:.2%}, test {test:.2%}"
        assert cells.split() == [epoch, f"{loss:.4f}", f"{100 * train:.2f}", f"{100 * test:.2f}"]


def test_parameters_give_the_same_accuracy(trained: tuple[Path, CommandResult]) -> None:
    folder, result = trained
    network = SimpleConvNet((1, 8, 8), {"filter_size": 3, "pad": 1})
    network.load_params(folder / "params.npz")
    (x_train, t_train), (x_test, t_test) = load_digits()
    last = history(folder)[-1]
    assert network.accuracy(x_train, t_train) == last["train_acc"]
    assert network.accuracy(x_test, t_test) == last["test_acc"]
    assert percent_right(result.out, 359) == round(100 * last["test_acc"], 2)


def test_checkpoint_is_a_trainers(trained: tuple[Path, CommandResult]) -> None:
    folder, _ = trained
    network = SimpleConvNet((1, 8, 8), {"filter_size": 3, "pad": 1})
    train, test = load_digits()
    trainer = Trainer(
        network,
        *train,
        *test,
        epochs=4,
        mini_batch_size=50,
        optimizer="Adam",
        optimizer_param={"lr": 0.002},
        schedule="cosine",
        verbose=False,
    )
    trainer.load_checkpoint(folder / "checkpoint.npz")
    assert [epoch.test_acc for epoch in trainer.history] == [e["test_acc"] for e in history(folder)]
    saved = arrays(folder / "params.npz")
    assert {name: array.tobytes() for name, array in network.params.items()} == {
        name: data for name, (_, _, data) in saved.items()
    }


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(trained: tuple[Path, CommandResult], name: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed, so there are none")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with image.open(trained[0] / name) as picture:
        assert picture.format == "PNG"
        assert 200 <= min(picture.size) <= max(picture.size) <= 4000
        pixels = np.asarray(picture.convert("L"))
    assert pixels.min() < 100
    assert pixels.max() > 200
    shown = np.mean(pixels != pixels[0, 0])
    assert 0.005 < shown < 1


def test_without_matplotlib(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastconv.viz", None)
    monkeypatch.delattr(fastconv, "viz", raising=False)
    write_data(tmp_path / "data")
    result = train("--data", tmp_path / "data", "--out", tmp_path / "out", *FEW_IMAGES)
    assert result.code == 0, result
    note = "no pictures: they need matplotlib (pip install 'fastconv[train]', then --resume)"
    assert result.out.splitlines()[-2] == note
    assert names(tmp_path / "out") == RESULTS


def test_all_test_images_are_right(train: Train, tmp_path: Path) -> None:
    """No image is misclassified, and everything else is written."""
    write_data(tmp_path / "data")
    result = train("--data", tmp_path / "data", "--out", tmp_path / "out", "--batch-size", "10")
    assert result.code == 0, result
    assert percent_right(result.out, 12) == 100
    assert result.out.splitlines()[-1] == f"written to {tmp_path / 'out'}"
    assert set(RESULTS) <= set(names(tmp_path / "out")) <= set(RESULTS + PICTURES)


def test_folder_with_other_files(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path)
    before = contents(tmp_path)
    result = train("--data", tmp_path, "--out", tmp_path, *FEW_IMAGES)
    assert result.code == 0, result
    assert names(tmp_path) == sorted([*before, *expected_names()])
    assert before.items() <= contents(tmp_path).items()


# --- Earlier results ------------------------------------------------------------------------


@pytest.mark.parametrize("left", [None, *RESULTS])
def test_earlier_results_are_not_replaced(
    train: Train, trained: tuple[Path, CommandResult], tmp_path: Path, left: str | None
) -> None:
    for name in RESULTS:
        if left in (None, name):
            (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    before = contents(tmp_path)
    words = f"{tmp_path} holds results of an earlier run (", "add --resume", "or --overwrite"
    assert_refused(train("--epochs", "1", "--out", tmp_path), *words, *before)
    assert contents(tmp_path) == before


def test_overwrite(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    common = ["--data", tmp_path / "data", *FEW_IMAGES]
    folder, new = tmp_path / "out", tmp_path / "new"
    assert train(*common, "--out", folder, "--seed", "7", "--network", "deep").code == 0
    assert train(*common, "--out", new).code == 0
    result = train(*common, "--out", folder, "--overwrite")
    assert result.code == 0, result
    assert_same_results(folder, new)
    for name in expected_names():
        assert (folder / name).read_bytes() == (new / name).read_bytes()


def test_overwrite_where_there_is_nothing(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path)
    args = "--data", tmp_path, "--out", tmp_path / "out", "--overwrite"
    assert train(*args, *FEW_IMAGES).code == 0
    assert names(tmp_path / "out") == expected_names()


# --- Going on -------------------------------------------------------------------------------


@pytest.fixture
def sigint() -> Iterator[None]:
    """Let Ctrl-C interrupt as usual, even where the tests run with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupt_and_resume(train: Train, tmp_path: Path) -> None:
    """A network with dropout is trained without a break, and with an interruption."""
    folder, other = tmp_path / "out", tmp_path / "other"
    args = ["--network", "deep", "--batch-size", "50", "--epochs", "6"]
    with subprocess.Popen(
        [*COMMAND, *args, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1 of 6: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out.splitlines()[-1] == f"written to {folder}"
    steps = re.search(r": interrupted, (\d+) steps, ", out)
    assert steps is not None
    assert 29 <= int(steps[1]) < 6 * 29
    assert names(folder) == expected_names()
    assert 1 <= len(history(folder)) < 6

    assert_refused(train(*args, "--out", folder), "add --resume")
    result = train(*args, "--out", folder, "--resume")
    assert result.code == 0, result
    assert result.err.splitlines()[-1].startswith("epoch 6 of 6: ")
    assert train(*args, "--out", other).code == 0
    assert_same_results(folder, other)
    for name in expected_names():
        assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.usefixtures("sigint")
@pytest.mark.parametrize(
    "step", [5, *(pytest.param(step, marks=pytest.mark.exhaustive) for step in (1, 3, 7))]
)
def test_interrupt_in_any_step(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write_data(tmp_path / "data")  # five steps in an epoch
    args = ["--data", tmp_path / "data", *FEW_IMAGES]
    gradient, calls = Sequential.gradient, []

    def interrupting(self: Sequential, x: Any, t: Any) -> Any:
        calls.append(x)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)
        return gradient(self, x, t)

    monkeypatch.setattr(Sequential, "gradient", interrupting)
    result = train(*args, "--out", tmp_path / "out")
    assert result.code == 130, result
    assert f": interrupted, {step} steps, " in result.out
    assert set(RESULTS) <= set(names(tmp_path / "out"))
    assert len(history(tmp_path / "out")) == step // 5
    assert train(*args, "--out", tmp_path / "out", "--resume").code == 0
    assert train(*args, "--out", tmp_path / "other").code == 0
    assert_same_results(tmp_path / "out", tmp_path / "other")


@pytest.mark.usefixtures("sigint")
def test_second_interrupt_is_quiet(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupting(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Sequential, "gradient", interrupting)
    assert train("--out", tmp_path) == (130, "", "")
    assert names(tmp_path) == []


def test_resume_where_there_is_nothing(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    args = ["--data", tmp_path / "data", *FEW_IMAGES]
    assert train(*args, "--out", tmp_path / "out", "--resume").code == 0
    assert train(*args, "--out", tmp_path / "other").code == 0
    assert_same_results(tmp_path / "out", tmp_path / "other")


def test_resume_what_is_complete(train: Train, trained: tuple[Path, CommandResult]) -> None:
    folder, first = trained
    before = {name: content for name, (content, _) in contents(folder).items()}
    result = train(*FOUR_EPOCHS, "--out", folder, "--resume")
    assert result.code == 0, result
    assert result.err == ""
    # Only the time differs.
    assert [re.sub(r"\d+\.\d s$", "", line) for line in result.out.splitlines()] == [
        re.sub(r"\d+\.\d s$", "", line) for line in first.out.splitlines()
    ]
    assert {name: content for name, (content, _) in contents(folder).items()} == before


def test_resume_with_more_epochs(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    args = ["--data", tmp_path / "data", "--schedule", "constant", "--batch-size", "10"]
    assert train(*args, "--epochs", "2", "--out", tmp_path / "out").code == 0
    result = train(*args, "--epochs", "4", "--out", tmp_path / "out", "--resume")
    assert result.code == 0, result
    assert [line[:12] for line in result.err.splitlines()] == ["epoch 3 of 4", "epoch 4 of 4"]
    assert train(*args, "--epochs", "4", "--out", tmp_path / "other").code == 0
    assert_same_results(tmp_path / "out", tmp_path / "other")


def test_results_without_images_to_test_with(tmp_path: Path) -> None:
    """The report, the history and the pictures contain no test accuracies."""
    (x, t), _ = load_digits()
    network = SimpleConvNet((1, 8, 8), {"filter_size": 3, "pad": 1}, seed=1)
    training = Trainer(network, x[:200], t[:200], epochs=1, verbose=False)
    training.train()
    lines = train_command._report(training, network, 1.0).splitlines()
    assert re.fullmatch(r" +1 +\d\.\d{4} +\d+\.\d\d", lines[2])
    assert lines[-1].endswith(": trained, 2 steps, 1.0 s")
    train_command._write(tmp_path, training, network, network.params["W1"].copy())
    written = set(expected_names()) - {"checkpoint.npz", "misclassified.png"}
    assert set(names(tmp_path)) == written


# --- Data of others -------------------------------------------------------------------------


def test_both_pairs(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path, "train", 60)
    write_data(tmp_path, "t10k", 24)
    result = train("--data", tmp_path, "--batch-size", "10")
    assert result.code == 0, result
    assert len(result.err.splitlines()) == 10
    assert "(input (1, 12, 12), output (10,), " in result.out
    assert ": trained, 60 steps, " in result.out
    assert percent_right(result.out, 24) == 100


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_pair(train: Train, tmp_path: Path, part: str) -> None:
    write_data(tmp_path, part)
    result = train("--data", tmp_path, *FEW_IMAGES)
    assert result.code == 0, result
    assert ": trained, 10 steps, " in result.out  # of 48 images
    percent_right(result.out, 12)


def test_more_than_ten_classes(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path, count=240, classes=26)
    result = train("--data", tmp_path, *FEW_IMAGES)
    assert result.code == 0, result
    assert "output (26,), " in result.out


def test_class_that_only_test_images_show(train: Train, tmp_path: Path) -> None:
    write_data(tmp_path, "train", 60, classes=11)
    write_data(tmp_path, "t10k", 24, classes=12)
    result = train("--data", tmp_path, *FEW_IMAGES)
    assert result.code == 0, result
    assert "output (12,), " in result.out


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("args", "percent"), [(["deep"], 98), (["resnet20", "--augment"], 99)], ids=["deep", "resnet20"]
)
def test_mnist(train: Train, args: list[str], percent: float) -> None:
    folder = os.environ.get("FASTCONV_MNIST")
    if folder is None:
        pytest.skip("FASTCONV_MNIST does not name a folder with t10k-images-idx3-ubyte.gz")
    with fastconv.num_threads(THREADS):
        result = train("--data", folder, "--network", *args)
    assert result.code == 0, result
    match = re.search(r"^(\d+\.\d\d)% of \d+ test images are right$", result.out, re.MULTILINE)
    assert match is not None
    assert float(match[1]) >= percent


# --- Errors ---------------------------------------------------------------------------------


def _no_folder(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    folder.rmdir()


def _empty(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte.gz").unlink()


def _file(folder: Path) -> None:
    _no_folder(folder)
    folder.write_text("precious")


def _no_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").unlink()


def _truncated(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def _damaged_gzip(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-4])


def _mislabelled(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes((folder / "train-images-idx3-ubyte").read_bytes())


def _fewer_labels(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(59, np.uint8)))


def _two_sizes(folder: Path) -> None:
    write_data(folder, "t10k", 60, size=13)


def _one_pixel(folder: Path) -> None:
    write_data(folder, size=1, classes=1)


BAD_DATA: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (_no_folder, ": No such file or directory"),
    "a file": (_file, ": Not a directory"),
    "empty": (_empty, ": no files called train-images..., train-labels..., "),
    "no labels": (_no_labels, ": there are train-... files, but no train-labels..."),
    "truncated": (_truncated, "train-images-idx3-ubyte: truncated: the header announces 60 images"),
    "damaged gzip": (_damaged_gzip, "train-labels-idx1-ubyte.gz: damaged gzip file: "),
    "mislabelled": (_mislabelled, "train-labels-idx1-ubyte.gz: not an IDX file of labels: "),
    "fewer labels": (_fewer_labels, "do not belong together: 60 images, 59 labels"),
    "two sizes": (_two_sizes, "train with are of 12 x 12 pixels, those to test with of 13 x 13"),
    "too small": (_one_pixel, "images of 1 x 1 pixels are no input for this network: "),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_bad_data(train: Train, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = tmp_path / "data"
    write_data(folder)
    spoil(folder)
    named = () if spoil is _one_pixel else (str(folder),)
    assert_refused(train("--data", folder, "--out", tmp_path / "out"), words, *named)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("network", ["deep", "lenet"])
def test_images_too_small(train: Train, tmp_path: Path, network: str) -> None:
    write_data(tmp_path / "data", size=3)
    args = "--data", tmp_path / "data", "--network", network, "--out", tmp_path / "out"
    words = f"error: --network {network}: images of 3 x 3 pixels are no input for this network: "
    assert_refused(train(*args), words)
    assert not (tmp_path / "out").exists()


def test_digits_are_too_small_for_lenet(train: Train) -> None:
    assert_refused(train("--network", "lenet"), "images of 8 x 8 pixels are no input")


@pytest.mark.parametrize(
    ("target", "reason"),
    [("file", "File exists"), ("file/out", "Not a directory"), ("file/a/b", "Not a directory")],
)
def test_unwritable_folder(train: Train, tmp_path: Path, target: str, reason: str) -> None:
    (tmp_path / "file").write_text("precious")
    for more in ([], ["--resume"], ["--overwrite"]):
        result = train("--out", tmp_path / target, *more)
        assert_refused(result, f"cannot write {tmp_path / target}: {reason}")
    assert (tmp_path / "file").read_text() == "precious"
    assert names(tmp_path) == ["file"]


def test_read_only_folder(train: Train, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert_refused(train("--out", tmp_path), f"cannot write {tmp_path}: Permission denied")
    assert names(tmp_path) == []


def test_resume_needs_a_folder(train: Train) -> None:
    assert_refused(train("--resume"), "--resume needs --out DIR")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--lr", "0.01"], "lr 0.002 instead of 0.01"),
        (["--batch-size", "20"], "mini_batch_size 50 instead of 20"),
        (["--schedule", "constant"], "schedule cosine instead of constant"),
        (["--warmup", "0.1"], "schedule cosine instead of Cosine(warmup=0.1)"),
        (["--weight-decay", "0.1"], "weight_decay 0.0 instead of 0.1"),
        (["--clip-norm", "1"], "clip_norm None instead of 1.0"),
        (["--optimizer", "sgd"], "optimizer Adam instead of SGD"),
        (["--optimizer", "momentum"], "optimizer Adam instead of Momentum"),
        (["--network", "deep"], "is not a checkpoint of this training: "),
        (["--augment", "2"], "augment None instead of RandomShift(2)"),
        (["--data", "DATA"], "images 1438 instead of 48"),
        (["--optimizer", "sgd", "--lr", "0.01"], "lr 0.002 instead of 0.01"),
    ],
)
def test_resume_with_other_settings(
    train: Train,
    trained: tuple[Path, CommandResult],
    tmp_path: Path,
    settings: list[str],
    words: str,
) -> None:
    write_data(tmp_path, size=8)
    settings = [str(tmp_path) if text == "DATA" else text for text in settings]
    folder, _ = trained
    before = contents(folder)
    result = train(*FOUR_EPOCHS, "--out", folder, "--resume", *settings)
    assert_refused(result, words, str(folder / "checkpoint.npz"))
    assert contents(folder) == before


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _other(content: bytes) -> bytes:
    return b"Hello, world"


def _nothing(content: bytes) -> bytes:
    return b""


def _flipped(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    return bytes(damaged)


def _flipped_flag(content: bytes) -> bytes:
    """Say of the first array that it is encrypted."""
    damaged = bytearray(content)
    damaged[content.index(b"PK\x01\x02") + 8] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize("damage", [_cut, _other, _nothing, _flipped, _flipped_flag])
def test_resume_from_a_damaged_checkpoint(
    train: Train,
    trained: tuple[Path, CommandResult],
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(damage((trained[0] / "checkpoint.npz").read_bytes()))
    before = contents(tmp_path)
    assert_refused(train(*FOUR_EPOCHS, "--out", tmp_path, "--resume"), str(path))
    assert contents(tmp_path) == before


def test_resume_from_parameters(
    train: Train, trained: tuple[Path, CommandResult], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.npz"
    path.write_bytes((trained[0] / "params.npz").read_bytes())
    words = f"{path} is not a checkpoint of this training"
    assert_refused(train(*FOUR_EPOCHS, "--out", tmp_path, "--resume"), words)


def test_checkpoint_that_cannot_be_read(train: Train, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").mkdir()
    result = train("--epochs", "1", "--out", tmp_path, "--resume")
    assert_refused(result, str(tmp_path / "checkpoint.npz"), "Is a directory")
    assert names(tmp_path) == ["checkpoint.npz"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("lr", ["1e30", "1e39", "1e300"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_diverging(
    train: Train, trained: tuple[Path, CommandResult], tmp_path: Path, lr: str, optimizer: str
) -> None:
    for name in RESULTS:
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    before = contents(tmp_path)
    args = "--lr", lr, "--optimizer", optimizer, "--out", tmp_path, "--overwrite"
    words = "the loss is nan after 1 steps: try a smaller learning rate than"
    assert_refused(train(*args), words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--augment", "--seed", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "", "1" * 5000])
def test_bad_numbers(train: Train, option: str, value: str) -> None:
    result = train(option, value)
    assert result.code == 2
    assert result.out == ""
    assert f"argument {option}: must be a whole number from 1 to" in result.err


@pytest.mark.parametrize("value", ["0", "-0.1", "nan", "inf", "fast", ""])
def test_bad_learning_rate(train: Train, value: str) -> None:
    result = train(f"--lr={value}")
    assert result.code == 2
    assert f"argument --lr: must be a number above 0, got '{value}'" in result.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--network", "huge"], "argument --network: invalid choice: 'huge'"),
        (["--optimizer", "newton"], "argument --optimizer: invalid choice: 'newton'"),
        (["--schedule", "linear"], "argument --schedule: invalid choice: 'linear'"),
        (["--data", ""], "argument --data: the path is empty"),
        (["--out", ""], "argument --out: the path is empty"),
        (["--resume", "--overwrite"], "not allowed with argument"),
        (["images"], "unrecognized arguments: images"),
    ],
)
def test_bad_arguments(train: Train, args: list[str], words: str) -> None:
    result = train(*args)
    assert result.code == 2
    assert result.out == ""
    assert words in result.err


def test_not_enough_memory(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    def fail_by_name(*_: Any) -> None:
        fastconv.im2col(np.ones((1, 1, 8, 8)), 3, 3, pad=10**8)

    monkeypatch.setattr(Sequential, "gradient", fail)
    assert_refused(train("--out", tmp_path), "not enough memory: no room")
    monkeypatch.setattr(Sequential, "gradient", fail_by_name)
    assert_refused(train("--out", tmp_path), "not enough memory: Unable to allocate")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_full_device(tmp_path: Path, unbuffered: str) -> None:
    """A full standard output is an error, but all files are written."""
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [*COMMAND, "--epochs", "1", "--out", str(tmp_path)],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr.splitlines()[1:] == [
        "fastconv train: error: cannot write the output: No space left on device"
    ]
    assert names(tmp_path) == expected_names()
