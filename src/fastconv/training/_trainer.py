"""The loop that trains a network, and can stop and go on at any step."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._arguments import generator, positive
from fastconv._arrays import Array, array_of
from fastconv._errors import argument_error, named, reason, shown
from fastconv._files import check_writable, path_of
from fastconv.augment import Transform
from fastconv.layers._loss import class_indices, sample_weights
from fastconv.training._checkpoint import load_checkpoint, save_checkpoint
from fastconv.training._history import Epoch, write_history
from fastconv.training._mini_batch import gradients
from fastconv.training._network import Network, state_of
from fastconv.training._optimizers import OPTIMIZERS, Optimizer, Options
from fastconv.training._progress import Progress
from fastconv.training._schedules import Schedule, schedule_of

# Epoch is defined elsewhere, but pickles of earlier versions look for it here.
__all__ = ["Epoch", "Trainer"]


@named
class Trainer:
    """Train a network with mini-batches.

    Every epoch goes through all training images, by default in a new random order. Training can
    stop at any step, be written to a file, and go on from there: the result is the same, bit for
    bit.

    Parameters
    ----------
    network : Sequential or another network
        What to train: an object with ``params``, ``predict``, ``gradient``, ``accuracy`` and
        ``last_layer.loss``.
    x_train, t_train : array_like
        Images and their labels (indices or one-hot) to learn from. For a network whose
        ``last_layer`` is a `MeanSquaredError` they are numbers (N, outputs), and no accuracies are
        measured.
    x_test, t_test : array_like, optional
        Images and labels to test with after every epoch. Without them there are no accuracies of
        the test.
    epochs : int, default 20
        Number of passes over the training images.
    mini_batch_size : int, default 100
        Number of images per step.
    optimizer : str or Optimizer, default "SGD"
        An update rule, or its name: "SGD", "Momentum", "AdaGrad", "RMSprop", "Adam" or "AdamW".
    optimizer_param : mapping, optional
        Arguments of the rule, for instance ``{"lr": 0.01, "weight_decay": 1e-4}``.
    evaluate_sample_num_per_epoch : int, optional
        Number of training images, and of test images, that accuracies are measured on; by default
        all. With 0 none are measured.
    schedule : {"constant", "cosine", "step"} or function, default "constant"
        How the learning rate changes: `Constant`, `Cosine`, `Step`, one of these names, or another
        function from the fraction of the training that is done to the learning rate's factor.
        Training that goes on from a checkpoint must have the same; functions are told by their
        names.
    verbose : bool, default True
        Show progress on standard error: a bar if it is a terminal and `tqdm` is installed, or a
        line for every epoch.
    seed : int or numpy.random.Generator, default 0
        For the order of the images.
    checkpoint : path-like, optional
        Where to write the state after every epoch and when interrupted.
    augment : callable, optional
        What changes every mini-batch of training images before the network sees it, for instance a
        transform of `fastconv.augment`: a function of the images and of the trainer's generator of
        random numbers, whose state is in the checkpoint. It must return images of the same shape.
        Accuracies are measured without it. What images to test with need as well, another size or
        scale, is for the data, before training.
    sample_weight : array_like, shape (N,), optional
        How much each training image counts in the loss and its gradient: numbers from 0 on, which
        are divided by their mean, so that the learning rate fits as without them.
    shuffle : bool, default True
        Whether every epoch has an order of its own. Otherwise images come as they are given.
    client : dask.distributed.Client, optional
        The cluster whose workers compute the gradients; `fastconv.dask.fit` tells how. `x_train`
        may then also be an array of Dask. The workers keep the images until `train` ends.
    shards : int, default 8
        With `client`, how many parts each mini-batch is cut into. The result depends on their
        number, and not on that of the workers.

    Attributes
    ----------
    history : list of Epoch
        What every epoch gave.
    train_loss_list : list of float
        The loss of every step.
    train_acc_list, test_acc_list : list of float
        The accuracies of every epoch; the second is empty without images to test with.
    interrupted : bool
        Whether Ctrl-C ended the last call of `train`, which then says so.

    Raises
    ------
    TypeError, ValueError
        If images and labels do not fit each other or the network, or images hold NaN or infinity.

    Examples
    --------
    >>> from fastconv.datasets import load_digits
    >>> from fastconv.models import SimpleConvNet
    >>> from fastconv.training import Trainer
    >>> train, test = load_digits()
    >>> param = {"filter_num": 8, "filter_size": 3, "pad": 1, "stride": 1}
    >>> net = SimpleConvNet((1, 8, 8), param, weight_init_std=0.1, seed=0)
    >>> trainer = Trainer(net, *train, *test, epochs=5, optimizer="Adam", verbose=False)
    >>> trainer.train()
    >>> trainer.test_acc_list[-1] > 0.5
    True
    """

    # Pickles of earlier versions lack these.
    augment: Transform | None = None
    sample_weight: Array | None = None
    shuffle: bool = True
    shards: int | None = None
    cluster: Any = None
    """The `Cluster` whose workers compute gradients; None without a client."""

    def __init__(
        self,
        network: Network,
        x_train: npt.ArrayLike,
        t_train: npt.ArrayLike,
        x_test: npt.ArrayLike | None = None,
        t_test: npt.ArrayLike | None = None,
        epochs: int = 20,
        mini_batch_size: int = 100,
        optimizer: str | Optimizer = "SGD",
        optimizer_param: Mapping[str, Any] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
        *,
        schedule: str | Schedule = "constant",
        seed: int | np.random.Generator = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        augment: Transform | None = None,
        sample_weight: npt.ArrayLike | None = None,
        shuffle: bool = True,
        client: Any = None,
        shards: int = 8,
    ) -> None:
        needed = ("predict", "gradient", "accuracy")
        if not all(callable(getattr(network, name, None)) for name in needed):
            raise argument_error(
                TypeError, f"network must have {', '.join(needed)}, got {type(network).__name__}"
            )
        self.network = network
        self.x_train, self.t_train = _labelled(
            network, x_train, t_train, "train", client is not None
        )
        self.x_test: Array | None = None
        self.t_test: Array | None = None
        if x_test is not None and t_test is not None:
            self.x_test, self.t_test = _labelled(network, x_test, t_test, "test")
        elif x_test is not None or t_test is not None:
            missing = "x_test" if x_test is None else "t_test"
            raise argument_error(
                ValueError, f"x_test and t_test must be given together, {missing} is None"
            )
        self.epochs = positive(epochs, "epochs")
        self.batch_size = positive(mini_batch_size, "mini_batch_size")
        self.optimizer = _optimizer(optimizer, optimizer_param)
        self.evaluated = _evaluated(network, evaluate_sample_num_per_epoch)
        schedule_of(schedule)  # It raises an error if this is none.
        self.schedule = schedule
        self.verbose = verbose
        if checkpoint is not None:
            path_of(checkpoint, "checkpoint")
        self.checkpoint = checkpoint
        if not (augment is None or callable(augment)):
            raise argument_error(
                TypeError, f"augment must be a callable of images and rng, got {shown(augment)}"
            )
        self.augment = augment
        self.sample_weight = _mean_one(sample_weights(sample_weight, len(self.x_train)))
        self.shuffle = bool(shuffle)
        self.rng = generator(seed)
        if client is not None:
            self.shards = positive(shards, "shards")
            self.cluster = self._cluster(client, self.shards)
        self.order = self._new_order()
        """The order in which this epoch visits the images."""
        self.history: list[Epoch] = []
        self.train_loss_list: list[float] = []
        self.interrupted = False

    def _cluster(self, client: Any, shards: int) -> Any:
        """Send the training images to the workers that compute gradients."""
        from fastconv.dask._cluster import Cluster

        data = self.x_train, self.t_train, self.sample_weight
        return Cluster(client, shards, self.network, *data, self.augment)

    @property
    def train_acc_list(self) -> list[float]:
        """The accuracies on training images, where they were measured."""
        return [epoch.train_acc for epoch in self.history if epoch.train_acc is not None]

    @property
    def test_acc_list(self) -> list[float]:
        """The accuracies on test images, where there are any."""
        return [epoch.test_acc for epoch in self.history if epoch.test_acc is not None]

    @property
    def steps_per_epoch(self) -> int:
        """The number of mini-batches per epoch. The last one may be smaller."""
        return -(-len(self.x_train) // self.batch_size)

    def train_step(self) -> float:
        """Take the next mini-batch and change the parameters once.

        Returns
        -------
        float
            The loss of the mini-batch, before the change.

        Raises
        ------
        FloatingPointError
            If the loss or, at an epoch's end, a parameter is no number any more. Checkpoints are
            not written from then on; the network may hold infinities.

        Examples
        --------
        >>> from fastconv.datasets import load_digits
        >>> from fastconv.models import Sequential
        >>> from fastconv.training import Trainer
        >>> images, labels = load_digits(flatten=True)[0]
        >>> net = Sequential((64,), seed=0).affine(10)
        >>> trainer = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> loss = trainer.train_step()
        >>> trainer.train_loss_list == [loss]
        True
        """
        done = len(self.train_loss_list)
        step = done % self.steps_per_epoch
        places = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        rule, lr = self.optimizer, self.optimizer.lr
        with np.errstate(over="ignore", invalid="ignore"):  # The loss is checked.
            grads, loss = self._gradients(places)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss is {loss}")
            progress = done / (self.epochs * self.steps_per_epoch)
            rule.lr = lr * schedule_of(self.schedule)(progress)
            try:
                rule.update(self.network.params, grads)
            finally:
                rule.lr = lr
            self.train_loss_list.append(loss)
            if step + 1 == self.steps_per_epoch:
                self._end_epoch()
        return loss

    def _gradients(self, places: Array) -> tuple[Mapping[str, Array], float]:
        """Compute the gradients and the loss of a mini-batch."""
        if self.cluster is not None:
            # A look at what the generator would draw: it changes only from epoch to epoch.
            drawn = int(copy.deepcopy(self.rng).integers(1 << 62))
            key = drawn, len(self.train_loss_list)
            grads: Mapping[str, Array]
            grads, loss = self.cluster.gradients(places, key)
            return grads, loss
        weights = None if self.sample_weight is None else self.sample_weight[places]
        batch = self.x_train[places], self.t_train[places], weights
        return gradients(self.network, *batch, self.augment, self.rng)

    def _end_epoch(self) -> None:
        self._check_finite()
        tested = None
        if self.x_test is not None and self.t_test is not None:
            tested = self._accuracy(self.x_test, self.t_test)
        losses = self.train_loss_list[-self.steps_per_epoch :]
        self.history.append(
            Epoch(
                len(self.history) + 1,
                sum(losses) / len(losses),
                self._train_accuracy(),
                tested,
            )
        )
        self.order = self._new_order()

    def _new_order(self) -> Array:
        """Say in which order the next epoch visits the images."""
        order = np.arange(len(self.x_train))
        if self.shuffle:
            # Each shard has its own images, which take turns; without shards all are of one.
            shards = self.shards or 1
            for shard in range(shards):
                own = order[shard::shards]
                own[...] = own[self.rng.permutation(len(own))]
        return order

    def _check_finite(self) -> None:
        for name, array in state_of(self.network).items():
            if not np.isfinite(array).all():
                raise self._diverged(f"{name} holds NaN or infinity")

    def _diverged(self, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} after {len(self.train_loss_list)} steps: try a smaller learning rate than "
            f"{self.optimizer.lr}"
        )

    def _train_accuracy(self) -> float | None:
        if self.cluster is None or self.evaluated == 0:
            return self._accuracy(self.x_train, self.t_train)
        accuracy: float = self.cluster.accuracy(self.evaluated)
        return accuracy

    def _accuracy(self, x: Array, t: Array) -> float | None:
        if self.evaluated == 0:
            return None
        return float(self.network.accuracy(x[: self.evaluated], t[: self.evaluated]))

    def train_epoch(self) -> Epoch:
        """Take steps until the epoch is complete, also one that was begun.

        Unlike `train` it neither shows progress, nor writes checkpoints, nor treats Ctrl-C.

        Returns
        -------
        Epoch
            What the epoch gave, the last of `history`.

        Raises
        ------
        FloatingPointError
            If the loss is no number any more.

        Examples
        --------
        >>> from fastconv.datasets import load_digits
        >>> from fastconv.models import Sequential
        >>> from fastconv.training import Trainer
        >>> images, labels = load_digits(flatten=True)[0]
        >>> net = Sequential((64,), seed=0).affine(10)
        >>> trainer = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> trainer.train_epoch().epoch
        1
        """
        complete = len(self.history)
        while len(self.history) == complete:
            self.train_step()
        return self.history[-1]

    def train(self) -> None:
        """Train until `epochs` epochs are complete, those of a loaded checkpoint included.

        Ctrl-C lets the step end, writes the checkpoint if there is to be one, sets `interrupted`
        and returns; a second one interrupts at once.

        Raises
        ------
        FloatingPointError
            If the loss is no number any more.
        OSError
            If the checkpoint cannot be written.

        Examples
        --------
        >>> from fastconv.datasets import load_digits
        >>> from fastconv.models import Sequential
        >>> from fastconv.training import Trainer
        >>> images, labels = load_digits(flatten=True)[0]
        >>> net = Sequential((64,), seed=0).affine(10)
        >>> trainer = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> trainer.train()
        >>> len(trainer.history), len(trainer.train_loss_list)
        (2, 30)
        """
        total = self.epochs * self.steps_per_epoch
        self.interrupted = False
        if self.checkpoint is not None:
            check_writable(self.checkpoint)
        with _interruptible() as stop, self._progress(total) as progress, self._at_workers():
            while len(self.train_loss_list) < total and not stop.is_set():
                done = len(self.history)
                loss = self.train_step()
                progress.step(loss)
                if len(self.history) > done:
                    progress.epoch(self.history[-1])
                    self._save()
            self.interrupted = len(self.train_loss_list) < total
            if self.interrupted:
                progress.interrupted(len(self.train_loss_list), len(self.history))
        if self.interrupted:
            self._check_finite()
            self._save()

    def _at_workers(self) -> contextlib.AbstractContextManager[Any]:
        """Let workers keep images and the network until training ends."""
        return (
            contextlib.nullcontext() if self.cluster is None else contextlib.closing(self.cluster)
        )

    def _progress(self, steps: int) -> contextlib.closing[Progress]:
        done = len(self.train_loss_list)
        return contextlib.closing(Progress(self.verbose, self.epochs, steps, done))

    # ---- files ---------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.save_checkpoint(self.checkpoint)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write all that training goes on from to a file, whole or not at all.

        Parameters
        ----------
        path : path-like
            An .npz file, which is replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        TypeError
            If `path` is no path.

        See Also
        --------
        load_checkpoint : Go on from there; with an example.
        """
        save_checkpoint(self, path_of(path, "path"))

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Go on from where `save_checkpoint` was called.

        Parameters
        ----------
        path : path-like
            What it wrote, for a trainer with the same network, images, optimiser and schedule.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is damaged or of another training; nothing is then changed.
        TypeError
            If `path` is no path.

        Examples
        --------
        >>> import os, tempfile
        >>> from fastconv.datasets import load_digits
        >>> from fastconv.models import Sequential
        >>> from fastconv.training import Trainer
        >>> images, labels = load_digits(flatten=True)[0]
        >>> net = Sequential((64,), seed=0).affine(10)
        >>> trainer = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> other = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "checkpoint.npz")
        ...     loss = trainer.train_step()
        ...     trainer.save_checkpoint(path)
        ...     other.load_checkpoint(path)
        >>> other.train_loss_list == [loss]
        True
        """
        load_checkpoint(self, path_of(path, "path"))

    def write_history(self, path: str | os.PathLike[str]) -> None:
        """Write the history as comma-separated values: a line of names, then a line per epoch.

        An accuracy that was not measured is empty.

        Parameters
        ----------
        path : path-like
            A file, which is replaced if it exists.

        Raises
        ------
        OSError
            If it cannot be written.
        TypeError
            If `path` is no path.

        Examples
        --------
        >>> import os, pathlib, tempfile
        >>> from fastconv.datasets import load_digits
        >>> from fastconv.models import Sequential
        >>> from fastconv.training import Trainer
        >>> images, labels = load_digits(flatten=True)[0]
        >>> net = Sequential((64,), seed=0).affine(10)
        >>> trainer = Trainer(net, images, labels, epochs=2, verbose=False)
        >>> trainer.train()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "history.csv")
        ...     trainer.write_history(path)
        ...     print(path.read_text().splitlines()[0])
        epoch,train_loss,train_acc,test_acc
        """
        write_history(self.history, path_of(path, "path"))


def _optimizer(optimizer: str | Optimizer, param: Mapping[str, Any] | None) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        if param:
            raise argument_error(
                ValueError, "optimizer_param is for an optimizer that is given by its name"
            )
        return optimizer
    rule = OPTIMIZERS.get(str(optimizer).lower())
    if rule is None:
        known = ", ".join(rule.__name__ for rule in OPTIMIZERS.values())
        raise argument_error(
            ValueError, f"optimizer must be one of {known}, got {shown(optimizer)}"
        )
    if not isinstance(param, (Mapping, type(None))):
        raise argument_error(TypeError, f"optimizer_param must be a mapping, got {shown(param)}")
    accepted = dict.fromkeys(inspect.signature(rule).parameters) | Options.__annotations__
    accepted.pop("options", None)
    if unknown := set(param or ()) - set(accepted):
        raise argument_error(
            TypeError,
            f"optimizer_param of {rule.__name__} has {', '.join(accepted)}, got "
            f"{', '.join(sorted(map(str, unknown)))}",
        )
    return rule(**(param or {}))


def _evaluated(network: Network, wanted: int | None) -> int | None:
    """Read how many images accuracies are measured on: None for all, 0 where there are none."""
    if wanted is not None and wanted != 0:
        wanted = positive(wanted, "evaluate_sample_num_per_epoch")
    return wanted if _targets_of(network) is class_indices else 0


def _targets_of(network: Network) -> Callable[[npt.ArrayLike, int, int], Array]:
    """Return what reads the targets of a network's loss: of classes, if it does not say."""
    read: Callable[[npt.ArrayLike, int, int], Array]
    read = getattr(getattr(network, "last_layer", None), "targets", class_indices)
    return read


def _mean_one(sample_weight: Array | None) -> Array | None:
    """Divide weights by their mean."""
    if sample_weight is None:
        return None
    mean = sample_weight.mean(dtype=np.float64)
    if not mean > 0:
        raise argument_error(ValueError, "sample_weight must not be 0 for all images")
    scaled: Array = sample_weight / mean
    return scaled


def _labelled(
    network: Network, x: npt.ArrayLike, t: npt.ArrayLike, part: str, on_cluster: bool = False
) -> tuple[Array, Array]:
    """Check images and labels once, before training, rather than in the middle of it."""
    images = _images(x, f"x_{part}", on_cluster)
    one = np.zeros((1, *images.shape[1:]), images.dtype) if on_cluster else images[:1]
    try:
        with np.errstate(all="ignore"):  # The network has not been trained.
            scores = np.shape(network.predict(one))
    except (TypeError, ValueError) as error:
        raise argument_error(
            type(error),
            f"x_{part} of shape {images.shape} does not fit the network: {reason(error)}",
        ) from error
    if len(scores) < 2:
        raise argument_error(
            ValueError, f"network must give a row of scores for every image, it gives {scores}"
        )
    try:
        return images, _targets_of(network)(t, len(images), scores[1])
    except (TypeError, ValueError) as error:
        message = f"t_{part} does not fit: {reason(error)}"
        raise argument_error(type(error), message) from error


def _images(x: Any, name: str, on_cluster: bool) -> Any:
    """Read images. On a cluster those of a Dask array stay where they are."""
    lazy = False
    if on_cluster:
        from fastconv.dask._chunks import checked, is_lazy

        lazy = is_lazy(x)
    images = checked(x, name) if lazy else array_of(x, name)
    if not images.ndim or not len(images):
        raise argument_error(ValueError, f"{name} must hold images, got shape {images.shape}")
    if images.dtype.kind == "f" and not lazy and not np.isfinite(images).all():
        raise argument_error(ValueError, f"{name} must be finite, it holds NaN or infinity")
    return images


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Let Ctrl-C set an event, and a second one interrupt as usual."""
    stop = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield stop
        return

    def request(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, usual)
