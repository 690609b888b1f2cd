"""Training on a cluster, as one call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastconv._errors import argument_error, named
from fastconv._files import path_of

if TYPE_CHECKING:
    from fastconv.training import Optimizer, Trainer


@named
def fit(
    network: Any,
    x: Any,
    t: Any,
    *,
    epochs: int = 20,
    mini_batch_size: int = 100,
    optimizer: str | Optimizer = "SGD",
    client: Any = None,
    shards: int = 8,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Trainer:
    """Train a network on the workers of a Dask cluster, with mini-batches cut into shards.

    The images are dealt to the shards once, image i to shard ``i % shards``, and stay on the
    workers. In each step a worker computes the gradients of its shards' parts of the mini-batch,
    the gradients of all shards are added, weighted by their numbers of images, and the parameters
    are changed and sent to the workers again. Shards are added in a fixed order, so that the
    trained parameters are the same, bit for bit, for every number of workers and threads, and if
    workers come, go or die meanwhile. They depend on the number of shards.

    Parameters
    ----------
    network : Sequential or another network
        What to train, as for `fastconv.training.Trainer`; it is changed in place.
    x : array_like or dask.array.Array
        Images. A Dask array is loaded by the workers and need not fit into the memory of one
        machine.
    t : array_like or dask.array.Array
        Labels.
    epochs, mini_batch_size, optimizer : optional
        As for `fastconv.training.Trainer`.
    client : dask.distributed.Client, optional
        The cluster. By default it is that of the client which was made last.
    shards : int, default 8
        How many parts every mini-batch is cut into; at least one for each thread of the workers, or
        some have nothing to do.
    checkpoint : path-like, optional
        Where the state is written after every epoch. If the file exists, training goes on from
        there.
    **options
        Other arguments of `fastconv.training.Trainer`, such as ``x_test``, ``schedule`` or
        ``augment``, which must be one that can be pickled.

    Returns
    -------
    Trainer
        The trainer, with the losses of all steps and the history; the workers have let go of the
        images.

    Raises
    ------
    TypeError, ValueError
        As by `fastconv.training.Trainer`; if there is no client; or if there are more shards than
        images.
    FloatingPointError
        If the loss is no number any more.

    Notes
    -----
    With one shard the parameters are those that `fastconv.training.Trainer` gives without a
    cluster, bit for bit, unless random numbers are drawn for images or dropout.

    Batch normalisation takes the mean and variance of each shard, as is usual in data-parallel
    training, so shards should hold a dozen images or more. The running ones change by the mean over
    shards, weighted and added like gradients.

    Random numbers of `augment` and of dropout depend on the seed, the step and the shard alone,
    if they are drawn from the generator that a layer has as ``rng``, or `augment` is given.

    Examples
    --------
    >>> from dask.distributed import Client
    >>> from fastconv.dask import fit
    >>> from fastconv.datasets import load_digits
    >>> from fastconv.models import Sequential
    >>> images, labels = load_digits(flatten=True)[0]
    >>> net = Sequential((64,), seed=0).affine(10)
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     trainer = fit(net, images, labels, epochs=1, client=client, verbose=False)
    >>> len(trainer.train_loss_list)
    15
    """
    from fastconv.training import Trainer

    client = _current() if client is None else client
    rule = {"optimizer": optimizer, "checkpoint": checkpoint, "client": client, "shards": shards}
    trainer = Trainer(
        network, x, t, epochs=epochs, mini_batch_size=mini_batch_size, **rule, **options
    )
    try:
        if checkpoint is not None and Path(path_of(checkpoint, "checkpoint")).exists():
            trainer.load_checkpoint(checkpoint)
        trainer.train()
    finally:
        trainer.cluster.close()
    return trainer


def _current() -> Any:
    """Return the client that was made last."""
    import distributed

    try:
        return distributed.get_client()
    except ValueError:
        raise argument_error(
            ValueError, "client must be a dask.distributed.Client, there is none yet"
        ) from None
