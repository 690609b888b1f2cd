"""Training on a Dask cluster: the same bits for every number of workers, and after a death."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.augment import RandomShift
from fastconv.layers import Dropout, Flatten, MeanSquaredError, Relu
from fastconv.models import Sequential
from fastconv.training import Trainer

da = pytest.importorskip("dask.array", reason="Dask is not installed")
distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

from fastconv.dask import fit  # noqa: E402
from fastconv.dask._cluster import Layout, _summed  # noqa: E402

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((90, 1, 6, 6)).astype(np.float32)
LABELS = (IMAGES.mean((1, 2, 3)) > 0).astype(int) + (IMAGES[:, 0, 0, 0] > 0)
WEIGHTS = RNG.random(90) + 0.1
OPTIONS: dict[str, Any] = {"epochs": 2, "mini_batch_size": 32, "verbose": False}


def network(dropout: bool = False, dtype: str = "f4") -> Sequential:
    net = Sequential((1, 6, 6), seed=0, dtype=dtype)
    net.convolution(3, 3, pad=1).batch_normalization().add(Relu())
    if dropout:
        net.add(Dropout(0.3))
    return net.add(Flatten()).affine(3)


def state_of(net: Sequential) -> bytes:
    return b"".join(array.tobytes() for array in net.state.values())


def cluster(workers: int, threads: int = 1) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=threads,
        processes=False,
        dashboard_address=":0",
        silence_logs=50,
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster(2) as workers, distributed.Client(workers) as connected:
        yield connected


# ---- without a cluster -------------------------------------------------------------------------


def test_sums_do_not_depend_on_where_tasks_end() -> None:
    """Leaves of any size give one tree of sums, also where some shards have nothing to add."""
    numbers = RNG.standard_normal(13).astype(np.float32) * np.float32(10) ** np.arange(-6, 7)
    terms = [None if i in (3, 8, 9) else number for i, number in enumerate(numbers)]

    def single(first: int, last: int) -> bool:
        return last - first == 1

    def inner(first: int, last: int) -> Any:
        return _summed(first, last, lambda i, _: terms[i], single, np.add)

    expected = inner(0, 13)
    for owners in ([0] * 13, [i // 4 for i in range(13)], [i * 3 // 13 for i in range(13)]):

        def is_leaf(first: int, last: int, owners: list[int] = owners) -> bool:
            return len(set(owners[first:last])) == 1

        assert _summed(0, 13, inner, is_leaf, np.add) == expected


def test_flat_arrays_hold_every_float_exactly() -> None:
    arrays: dict[str, Any] = {
        "half": np.array([[1, 2**-24]], np.float16),
        "single": np.array(np.pi, np.float32),
        "double": np.array([np.pi, 1e300]),
    }
    layout = Layout(arrays)
    flat = layout.flat(arrays)
    assert flat.dtype == np.float64
    assert flat.shape == (layout.size,) == (5,)
    for name, piece in layout.pieces(flat).items():
        np.testing.assert_array_equal(piece.astype(arrays[name].dtype), arrays[name])


def test_without_a_client() -> None:
    with pytest.raises(ValueError, match=r"fit: client must be a dask.distributed.Client"):
        fit(network(), IMAGES, LABELS)


# ---- equal to the trainer without a cluster ----------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("f4", {"optimizer": "Adam", "optimizer_param": {"clip_norm": 0.5}}),
        ("f2", {"optimizer": "Momentum", "shuffle": False}),
        ("f8", {"optimizer": "AdamW", "sample_weight": WEIGHTS, "schedule": "cosine"}),
        ("f4", {"evaluate_sample_num_per_epoch": 7}),
    ],
)
def test_one_shard_is_the_trainer(client: Any, dtype: str, options: dict[str, Any]) -> None:
    local, shared = network(dtype=dtype), network(dtype=dtype)
    tested = {"x_test": IMAGES[:20], "t_test": LABELS[:20]}
    expected = Trainer(local, IMAGES, LABELS, **OPTIONS, **options, **tested)
    expected.train()
    found = fit(shared, IMAGES, LABELS, client=client, shards=1, **OPTIONS, **options, **tested)
    assert state_of(shared) == state_of(local)
    assert found.train_loss_list == expected.train_loss_list
    assert found.history == expected.history


def test_shards_are_the_mean_gradient(client: Any) -> None:
    """Without batch normalisation a step is that of the same mini-batch in one piece."""
    nets = [Sequential((36,), seed=0, dtype="f8").affine(5).add(Relu()).affine(3) for _ in "ab"]
    rows = IMAGES.reshape(90, 36)
    options = {**OPTIONS, "shuffle": False, "sample_weight": WEIGHTS, "mini_batch_size": 37}
    local = Trainer(nets[0], rows, LABELS, **options)
    shared = Trainer(nets[1], rows, LABELS, client=client, shards=5, **options)
    for _ in range(5):
        assert shared.train_step() == pytest.approx(local.train_step(), rel=1e-13)
    for name, array in nets[0].params.items():
        np.testing.assert_allclose(nets[1].params[name], array, rtol=1e-10, atol=1e-15)


def test_running_statistics_are_means_over_shards(client: Any) -> None:
    net, shared = network(), network()
    trainer = Trainer(shared, IMAGES, LABELS, client=client, shards=3, shuffle=False, **OPTIONS)
    trainer.train_step()
    before = {name: net.state[name].copy() for name in ("running_mean1", "running_var1")}
    expected: dict[str, Any] = dict.fromkeys(before, 0.0)
    for shard in range(3):
        batch = slice(shard, 32, 3)
        for name, array in before.items():
            net.state[name][...] = array
        net.gradient(IMAGES[batch], LABELS[batch])
        share = len(range(shard, 32, 3)) / 32
        expected = {name: old + share * net.state[name] for name, old in expected.items()}
    for name, array in expected.items():
        np.testing.assert_allclose(shared.state[name], array, rtol=1e-6)


def test_regression(client: Any) -> None:
    net = network()
    net.last_layer = MeanSquaredError()
    trainer = fit(net, IMAGES, np.eye(3)[LABELS], client=client, shards=4, **OPTIONS)
    assert trainer.train_acc_list == []
    assert trainer.train_loss_list[-1] < trainer.train_loss_list[0]


# ---- the number of workers, threads and kernel threads -----------------------------------------


def test_workers_and_threads_do_not_matter() -> None:
    """Also with dropout, augmented images, a last mini-batch smaller than the shards, and Dask."""
    options = {**OPTIONS, "mini_batch_size": 28, "augment": RandomShift(1), "optimizer": "Adam"}
    results = []
    for workers, threads, kernel_threads in ((1, 1, 1), (1, 1, 3), (2, 2, 2), (8, 1, 1)):
        with (
            cluster(workers, threads) as local,
            distributed.Client(local) as client,
            fastconv.num_threads(kernel_threads),
        ):
            net = network(dropout=True)
            images = IMAGES if workers < 8 else da.from_array(IMAGES, chunks=(31, 1, 6, 3))
            fit(net, images, LABELS, client=client, shards=8, **options)
            results.append(state_of(net))
    assert set(results) == {results[0]}


def test_shards_and_seeds_matter(client: Any) -> None:
    """Dropout differs between shards and steps, and with the seed."""
    results = set()
    given: list[dict[str, Any]] = [{"shards": 2}, {"shards": 3}, {"shards": 2, "seed": 1}]
    for options in given:
        net = network(dropout=True)
        fit(net, IMAGES, LABELS, client=client, shuffle=False, **options, **OPTIONS)
        results.add(state_of(net))
    assert len(results) == 3


def test_workers_that_come_and_go() -> None:
    expected = network()
    with cluster(1) as local, distributed.Client(local) as client:
        fit(expected, IMAGES, LABELS, client=client, **OPTIONS)
    net = network()
    with cluster(1) as local, distributed.Client(local) as client:
        trainer = Trainer(net, IMAGES, LABELS, client=client, **OPTIONS)
        trainer.train_step()
        local.scale(3)
        client.wait_for_workers(3, timeout=30)
        trainer.train_step()
        assert len(set(trainer.cluster.owners)) == 3
        local.scale(1)
        trainer.train()
    assert state_of(net) == state_of(expected)


def test_images_that_are_lost_are_sent_again(client: Any) -> None:
    expected, net = network(), network()
    fit(expected, IMAGES, LABELS, client=client, **OPTIONS)
    trainer = Trainer(net, IMAGES, LABELS, client=client, **OPTIONS)
    trainer.train_step()
    client.cancel(trainer.cluster.parts[:3], force=True)
    trainer.train()
    assert state_of(net) == state_of(expected)


def test_workers_let_go_of_images_and_networks() -> None:
    with cluster(2) as local, distributed.Client(local) as client:
        trainer = fit(network(), IMAGES, LABELS, client=client, **OPTIONS)
        assert plugins(client) == 0
        deadline = time.monotonic() + 30
        while any(client.has_what().values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        trainer.train_step()  # They get them again if need be.
        assert plugins(client) == 2
        with pytest.raises(ValueError, match="must be finite"):
            fit(network(), da.full((9, 1, 6, 6), np.nan), LABELS[:9], client=client)
        assert plugins(client) == 2


def plugins(client: Any) -> int:
    """Count the networks that workers know."""
    found = client.run(lambda dask_worker: list(dask_worker.plugins))
    return sum(name.startswith("fastconv") for names in found.values() for name in names)


def test_chunks_are_loaded_once(client: Any) -> None:
    class Source:
        shape, dtype, ndim = IMAGES.shape, IMAGES.dtype, IMAGES.ndim
        loaded: list[int] = []  # noqa: RUF012

        def __getitem__(self, index: Any) -> Any:
            piece = IMAGES[index]
            if piece.size:
                self.loaded.append(len(piece))
            return piece

    images = da.from_array(Source(), chunks=(20, 1, 6, 6), name="counted", asarray=True)
    Source.loaded.clear()
    fit(network(), images, LABELS, client=client, **OPTIONS)
    assert sorted(Source.loaded) == [10, 20, 20, 20, 20]


# ---- checkpoints -------------------------------------------------------------------------------


def test_training_goes_on_from_a_checkpoint(client: Any, tmp_path: Path) -> None:
    options = {**OPTIONS, "augment": RandomShift(1), "client": client, "shards": 3}
    expected = network(dropout=True)
    whole = fit(expected, IMAGES, LABELS, **options)
    path, net = tmp_path / "checkpoint.npz", network(dropout=True)
    trainer = Trainer(net, IMAGES, LABELS, **options)
    for _ in range(4):  # The second epoch has begun.
        trainer.train_step()
    trainer.save_checkpoint(path)
    other = network(dropout=True)
    resumed = fit(other, IMAGES, LABELS, checkpoint=path, seed=5, **options)
    assert state_of(other) == state_of(expected)
    assert resumed.train_loss_list == whole.train_loss_list
    assert resumed.history == whole.history
    # The file is now that of the end, from where there is nothing to do.
    again = network(dropout=True)
    fit(again, IMAGES, LABELS, checkpoint=path, **options)
    assert state_of(again) == state_of(expected)


def test_checkpoints_of_other_shards_or_images(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    fit(network(), IMAGES, LABELS, client=client, shards=3, checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match=r"fit: .* it has .*shards 3 instead of 4"):
        fit(network(), IMAGES, LABELS, client=client, shards=4, checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match="shards 3 instead of None"):
        Trainer(network(), IMAGES, LABELS, **OPTIONS).load_checkpoint(path)
    changed = IMAGES.copy()
    changed[7, 0, 1, 1] += 1
    for images in (changed, da.from_array(changed, chunks=(20, 1, 6, 6))):
        with pytest.raises(ValueError, match="it has checksum"):
            fit(network(), images, LABELS, client=client, shards=3, checkpoint=path, **OPTIONS)


# ---- errors ------------------------------------------------------------------------------------


def test_errors(client: Any) -> None:
    net = network()
    before = state_of(net)
    with pytest.raises(TypeError, match=r"client must be a dask.distributed.Client, got str"):
        fit(net, IMAGES, LABELS, client="tcp://localhost:8786")
    with pytest.raises(ValueError, match="shards must be at most 90, one an image, got 91"):
        fit(net, IMAGES, LABELS, client=client, shards=91)
    with pytest.raises(ValueError, match="shards must be"):
        fit(net, IMAGES, LABELS, client=client, shards=0)
    with pytest.raises(ValueError, match=r"x_train of shape \(90, 1, 6, 5\) does not fit"):
        fit(net, IMAGES[..., :5], LABELS, client=client)
    with pytest.raises(ValueError, match="t_train does not fit"):
        fit(net, da.from_array(IMAGES), LABELS[:5], client=client)
    bad = IMAGES.copy()
    bad[50, 0, 3, 3] = np.nan
    for images in (bad, da.from_array(bad, chunks=(20, 1, 6, 6))):
        with pytest.raises(ValueError, match="x_train must be finite, it holds NaN or infinity"):
            fit(net, images, LABELS, client=client)
    unknown = da.from_array(IMAGES, chunks=(30, 1, 6, 6))
    with pytest.raises(ValueError, match="x_train must have chunks of known sizes"):
        fit(net, unknown[unknown[:, 0, 0, 0] > 0], LABELS, client=client)
    with pytest.raises(ValueError, match="augment must return images of the same shape"):
        fit(net, IMAGES, LABELS, client=client, augment=lambda images, rng: images[:, :, 1:])
    assert state_of(net) == before


def test_divergence(client: Any) -> None:
    param = {"lr": 1e30}
    with (
        pytest.raises(FloatingPointError, match="try a smaller learning rate"),
        np.errstate(all="ignore"),
    ):
        fit(network(), IMAGES, LABELS, client=client, optimizer_param=param, **OPTIONS)


# ---- several processes -------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("lazy", [False, True])
def test_workers_that_die(lazy: bool) -> None:
    """Twice a worker is killed in the middle, and the result is that of one worker."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 1, 6, 6)).astype("f4")
    t = rng.integers(0, 3, 1000)
    options = {**OPTIONS, "epochs": 8, "optimizer": "Adam"}
    expected, net = network(dropout=True), network(dropout=True)
    with cluster(1) as local, distributed.Client(local) as client:
        fit(expected, x, t, client=client, **options)
    steps: list[float] = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as processes,
        distributed.Client(processes) as client,
    ):

        def kill() -> None:
            for steps_taken in (40, 150):
                while len(trainer.train_loss_list) < steps_taken:
                    time.sleep(0.01)
                steps.append(len(trainer.train_loss_list))
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        images = da.from_array(x, chunks=(100, 1, 6, 6)) if lazy else x
        trainer = Trainer(net, images, t, client=client, **options)
        killer = threading.Thread(target=kill)
        killer.start()
        trainer.train()
        killer.join()
    assert len(steps) == 2
    assert steps[-1] < len(trainer.train_loss_list) == 256
    assert state_of(net) == state_of(expected)
