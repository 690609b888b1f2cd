"""Checkpoints: all that a training goes on from, in one .npz file.

The file holds the network's arrays under ``network/``, what the update rule keeps for each
parameter under ``optimizer/``, the order of the images in the epoch, the losses of the steps, and
everything else as JSON under ``about``: what must be the same when training goes on, numbers of
steps, states of random generators, and the history.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._arrays import Array
from fastconv._errors import argument_error, reason
from fastconv.models._npz import Archive, DamagedFileError, open_npz, write_npz
from fastconv.training._history import Epoch
from fastconv.training._network import generators_of, state_of
from fastconv.training._optimizers import kept_dtype
from fastconv.training._schedules import identity_of, schedule_of

if TYPE_CHECKING:
    from fastconv.training._trainer import Trainer

__all__ = ["load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class _Checkpoint:
    """The content of a file that belongs to the training that is to go on."""

    arrays: Mapping[str, Array]
    """The arrays of the network and of the update rule, by their names in the file."""
    order: Array
    losses: list[float]
    history: list[Epoch]
    updates: int
    """The number of times that the update rule has changed the parameters."""
    random: list[Any]
    """The states of the generators, in the order of `_bit_generators`."""


def save_checkpoint(trainer: Trainer, path: str) -> None:
    """Write a training's state to a file, whole or not at all."""
    rule = trainer.optimizer
    about = {
        **_identity(trainer),
        "steps": len(trainer.train_loss_list),
        "iter": rule.iter,
        "random": [generator.state for generator in _bit_generators(trainer)],
        "history": [astuple(epoch) for epoch in trainer.history],
    }
    arrays = {f"network/{name}": array for name, array in state_of(trainer.network).items()}
    for variable, kept in rule.kept.items():
        arrays |= {f"optimizer/{variable}/{name}": array for name, array in kept.items()}
    write_npz(
        path,
        {
            **arrays,
            "about": np.array(json.dumps(about, default=lambda array: array.tolist())),
            "order": trainer.order,
            "losses": np.array(trainer.train_loss_list),
        },
    )


def load_checkpoint(trainer: Trainer, path: str) -> None:
    """Let a training go on from a file, or raise an error before anything is changed."""
    with open_npz(path) as archive:
        try:
            found = _read(trainer, archive)
        except DamagedFileError:
            raise
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise argument_error(
                ValueError,
                f"{path} is not a checkpoint of this training: {reason(error)}",
            ) from error
    for name, array in state_of(trainer.network).items():
        # Networks with a plain dict hold the same array in a layer, so it is changed in place.
        array[...] = found.arrays[f"network/{name}"]
    rule = trainer.optimizer
    for variable in rule.kept:
        start = f"optimizer/{variable}/"
        rule.kept[variable] = {
            name.removeprefix(start): array
            for name, array in found.arrays.items()
            if name.startswith(start)
        }
    rule.iter = found.updates
    for generator, state in zip(_bit_generators(trainer), found.random, strict=True):
        generator.state = state
    trainer.order = found.order
    trainer.train_loss_list, trainer.history = found.losses, found.history


def _identity(trainer: Trainer) -> dict[str, Any]:
    """Say what must be the same when training goes on."""
    rule = trainer.optimizer
    schedule = identity_of(schedule_of(trainer.schedule))
    return {
        "images": len(trainer.x_train),
        "checksum": _checksum(trainer),
        "shards": trainer.shards,
        "mini_batch_size": trainer.batch_size,
        **_weighting(trainer),
        "schedule": schedule,
        "augment": None if trainer.augment is None else _description(trainer.augment),
        **({} if schedule == "constant" else {"epochs": trainer.epochs}),
        "optimizer": type(rule).__name__,
        **{key: value for key, value in vars(rule).items() if key not in ("kept", "iter")},
    }


def _checksum(trainer: Trainer) -> int:
    """Return a number that changes when a training image does."""
    if trainer.cluster is not None:
        checksum: int = trainer.cluster.checksum
        return checksum
    return zlib.crc32(np.ascontiguousarray(trainer.x_train).data)


def _weighting(trainer: Trainer) -> dict[str, Any]:
    """Say how images count and in which order, in a way that fits older checkpoints."""
    weights = trainer.sample_weight
    checksum = None if weights is None else zlib.crc32(np.ascontiguousarray(weights).data)
    return {"sample_weight": checksum, "order": None if trainer.shuffle else "as given"}


def _description(augment: object) -> str:
    """Describe a transform without the address of a function, which differs between processes."""
    return re.sub(" at 0x[0-9a-fA-F]+", "", repr(augment))


def _bit_generators(trainer: Trainer) -> list[Any]:
    """List what training draws random numbers from: the order of images, weights, dropout."""
    of_network = generators_of(trainer.network)
    found = {id(rng): rng.bit_generator for rng in (trainer.rng, *of_network)}
    if getattr(trainer.network, "rng", None) is None:
        # Networks without a generator of their own draw from NumPy's global one.
        return [*found.values(), np.random.get_bit_generator()]  # type: ignore[attr-defined]
    return list(found.values())


# ---- reading -----------------------------------------------------------------------------------


def _read(trainer: Trainer, archive: Archive) -> _Checkpoint:
    """Read a file's arrays once it is known that they are those of this training."""
    about = json.loads(str(archive.read_uncompressed("about")))
    _check_identity(trainer, about)
    _check_arrays(trainer, archive, about["iter"])
    kept = archive.header("losses")
    if len(kept.shape) != 1 or kept.dtype != np.float64:
        raise ValueError(f"losses must be a row of float64, got {kept.shape} of {kept.dtype}")
    arrays = {name: archive.read(name) for name in archive.names if name not in ("about", "losses")}
    found = _Checkpoint(
        arrays,
        arrays.pop("order"),
        archive.read_uncompressed("losses").tolist(),
        [Epoch(*row) for row in about["history"]],
        about["iter"],
        about["random"],
    )
    _check_progress(trainer, found, about["steps"])
    for generator, state in zip(_bit_generators(trainer), found.random, strict=True):
        # A bad state raises an error, so it is tried on another generator of the same kind first.
        type(generator)().state = state
    return found


def _check_identity(trainer: Trainer, about: Mapping[str, Any]) -> None:
    # Checkpoints that lack an option of a rule were written when there was only its default.
    kind = type(trainer.optimizer)
    identity = {
        key: (about.get(key, getattr(kind, key, None)), value)
        for key, value in _identity(trainer).items()
    }
    different = [
        f"{key} {found} instead of {wanted}"
        for key, (found, wanted) in identity.items()
        if found != wanted
    ]
    if different:
        raise ValueError(f"it has {', '.join(different)}")


def _check_arrays(trainer: Trainer, archive: Archive, updates: int) -> None:
    """Raise a ValueError unless the headers of arrays are those that this training writes.

    After an update, there are the rule's arrays, too.
    """
    network = trainer.network
    expected = {
        f"network/{name}": (array.shape, array.dtype) for name, array in state_of(network).items()
    }
    expected["order"] = trainer.order.shape, trainer.order.dtype
    if updates:
        expected |= {
            f"optimizer/{variable}/{name}": (array.shape, kept_dtype(array))
            for variable in trainer.optimizer.kept
            for name, array in network.params.items()
        }
    found = archive.names - {"about", "losses"}
    if expected.keys() != found:
        names = ", ".join(sorted(expected.keys() ^ found))
        raise ValueError(f"it is of another network, which differs in {names}")
    for name, (shape, dtype) in expected.items():
        array = archive.header(name)
        if (array.shape, array.dtype) != (shape, dtype):
            raise ValueError(
                f"{name} must be of shape {shape} and {dtype}, got {array.shape} and {array.dtype}"
            )


def _check_progress(trainer: Trainer, found: _Checkpoint, steps: int) -> None:
    """Raise a ValueError unless order, losses and history are of as many steps."""
    if not np.array_equal(np.sort(found.order), np.arange(len(trainer.x_train))):
        raise ValueError("it lacks some of the images")
    losses = len(found.losses)
    if not losses == steps >= len(found.history) * trainer.steps_per_epoch:
        raise ValueError(f"it has {losses} losses of {steps} steps")
