"""Parameters of PyTorch networks: what is copied where, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Array, assert_close, assert_same, normal_values

from fastconv.layers import Affine, Convolution, Flatten, Pooling, Relu
from fastconv.models import Sequential, load_state_dict


def network(**kwargs: Any) -> Sequential:
    """Make a network with every kind of parameter, and a square matrix."""
    net = Sequential((2, 6, 6), seed=0, **kwargs).convolution(4, 3, pad=1).batch_normalization()
    return net.add(Relu(), Pooling(2, 2, 2), Flatten()).affine(36).add(Relu()).affine(3)


def state(seed: int = 1) -> dict[str, Array]:
    """Make what PyTorch would return for the same network, in PyTorch's shapes and order."""
    shapes = {
        "conv.weight": (4, 2, 3, 3),
        "conv.bias": (4,),
        "norm.weight": (4,),
        "norm.bias": (4,),
        "norm.running_mean": (4,),
        "norm.running_var": (4,),
        "norm.num_batches_tracked": (),
        "fc1.weight": (36, 36),
        "fc1.bias": (36,),
        "fc2.weight": (3, 36),
        "fc2.bias": (3,),
    }
    random = np.random.default_rng(seed)
    return {name: random.random(shape, np.float32) for name, shape in shapes.items()}


def values(net: Sequential) -> dict[str, Array]:
    return {name: array.copy() for name, array in net.state.items()}


def assert_unchanged(net: Sequential, before: dict[str, Array]) -> None:
    for name, array in before.items():
        assert_same(net.state[name], array)


def test_every_array_goes_where_it_belongs() -> None:
    net, theirs = network(), state()
    assert load_state_dict(net, theirs) == [
        ("conv.weight", "W1"),
        ("conv.bias", "b1"),
        ("norm.weight", "gamma1"),
        ("norm.bias", "beta1"),
        ("norm.running_mean", "running_mean1"),
        ("norm.running_var", "running_var1"),
        ("fc1.weight", "W2"),
        ("fc1.bias", "b2"),
        ("fc2.weight", "W3"),
        ("fc2.bias", "b3"),
    ]
    assert_same(net.state["W1"], theirs["conv.weight"])
    assert_same(net.state["W2"], theirs["fc1.weight"].T)  # it is square, and still transposed
    assert_same(net.state["W3"], theirs["fc2.weight"].T)
    for name, other in (
        ("b1", "conv.bias"),
        ("gamma1", "norm.weight"),
        ("beta1", "norm.bias"),
        ("running_mean1", "norm.running_mean"),
        ("running_var1", "norm.running_var"),
        ("b2", "fc1.bias"),
        ("b3", "fc2.bias"),
    ):
        assert_same(net.state[name], theirs[other])


def test_layers_within_layers() -> None:
    """They take their arrays in the order in which they stand, as PyTorch lists them."""
    inner = Sequential((2, 6, 6), seed=0).convolution(4, 3, pad=1).batch_normalization()
    net = Sequential((2, 6, 6), [inner.add(Relu(), Pooling(2, 2, 2), Flatten())], seed=0)
    net.affine(36).add(Relu()).affine(3)
    flat, theirs = network(), state()
    assert load_state_dict(net, theirs) == load_state_dict(flat, theirs)
    assert_unchanged(net, values(flat))


def test_arrays_are_copied_and_keep_the_network_s_dtype() -> None:
    net, theirs = network(dtype=np.float64), state()
    load_state_dict(net, theirs)
    before = values(net)
    for array in theirs.values():
        array[...] = 7
    assert_unchanged(net, before)
    assert {array.dtype for array in net.params.values()} == {np.dtype(np.float64)}


def test_the_order_within_a_module_does_not_matter() -> None:
    net, other, theirs = network(), network(), state()
    modules = dict.fromkeys(name.rpartition(".")[0] for name in theirs)
    shuffled = {
        name: theirs[name]
        for module in modules
        for name in reversed(theirs)
        if name.startswith(f"{module}.")
    }
    assert list(shuffled) != list(theirs)
    load_state_dict(net, theirs)
    load_state_dict(other, shuffled)
    assert_unchanged(other, values(net))


def test_arrays_may_come_from_a_file(tmp_path: Path) -> None:
    net, other, theirs = network(), network(), state()
    np.savez(tmp_path / "state.npz", **theirs)  # type: ignore[arg-type]
    load_state_dict(net, theirs)
    with np.load(tmp_path / "state.npz") as file:
        load_state_dict(other, file)
    assert_unchanged(other, values(net))


def test_layers_without_bias_fit_modules_without() -> None:
    weights = normal_values((4, 2, 3, 3)), normal_values((3, 64), seed=1)
    net = Sequential((2, 6, 6), [Convolution(np.zeros((4, 2, 3, 3)), None)])
    net.add(Affine(np.zeros((64, 3)), None))
    pairs = load_state_dict(net, {"0.weight": weights[0], "2.weight": weights[1]})
    assert pairs == [("0.weight", "W1"), ("2.weight", "W2")]
    np.testing.assert_array_equal(net.params["W2"], weights[1].T)


def test_a_layer_with_weights_and_normalization_stands_for_two_modules() -> None:
    class Both(Affine):
        def __init__(self) -> None:
            super().__init__(np.zeros((2, 3)), np.zeros(3))
            self.gamma, self.beta = np.ones(3), np.zeros(3)

    net = Sequential((2,), [Both()])
    module = {"a.weight": np.ones((3, 2)), "a.bias": np.full(3, 2.0)}
    theirs = {**module, "b.weight": np.full(3, 3.0), "b.bias": np.full(3, 4.0)}
    assert load_state_dict(net, theirs) == list(zip(theirs, ["W1", "b1", "gamma1", "beta1"]))
    assert_same(net.params["beta1"], theirs["b.bias"])


# --------------------------------------------------------------------------------- what is refused


def refusal(net: Sequential, theirs: dict[str, Any]) -> str:
    """Return what is said, after making sure that nothing was changed."""
    before = values(net)
    with pytest.raises(ValueError, match="state_dict") as caught:
        load_state_dict(net, theirs)
    assert_unchanged(net, before)
    return str(caught.value)


def test_other_shapes_are_listed_with_the_names_of_both_sides() -> None:
    theirs = state()
    theirs["conv.weight"] = np.ones((4, 2, 5, 5))
    theirs["fc2.weight"] = theirs["fc2.weight"].T  # as our layers hold it
    assert refusal(network(), theirs) == (
        "load_state_dict: the state_dict does not fit the network; nothing was changed. "
        "What does not fit:\n"
        "state_dict   shape         network  shape\n"
        "-----------  ------------  -------  ------------------\n"
        "conv.weight  (4, 2, 5, 5)  W1       (4, 2, 3, 3)\n"
        "fc2.weight   (36, 3)       W3       (36, 3) transposed"
    )


def test_what_one_side_lacks_is_listed() -> None:
    theirs = state()
    del theirs["conv.bias"], theirs["norm.running_mean"]
    theirs["fc1.weight_g"] = np.ones((36, 1))
    lines = refusal(network(), theirs).splitlines()[3:]
    assert [line.split(maxsplit=1)[0] for line in lines] == ["-", "-", "fc1.weight_g"]
    assert lines[0].split() == ["-", "b1", "(4,)"]
    assert lines[1].split() == ["-", "running_mean1", "(4,)"]
    assert lines[2].split() == ["fc1.weight_g", "(36,", "1)", "-"]


@pytest.mark.parametrize("module", ["conv", "norm", "fc1", "fc2"])
def test_a_missing_module_is_counted(module: str) -> None:
    theirs = {name: array for name, array in state().items() if not name.startswith(module)}
    text = refusal(network(), theirs)
    assert "Modules with parameters: 3, layers with parameters: 4. " in text
    assert "b3" in text
    assert "Modules with parameters: 4, layers with parameters: 3. " in refusal(
        Sequential((2, 6, 6)).convolution(4, 3, pad=1).batch_normalization().affine(36), state()
    )


def test_modules_in_another_order_do_not_fit() -> None:
    assert "norm.running_mean" in refusal(network(), dict(sorted(state().items())))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full(3, np.nan), "b3 holds NaN, infinity"),
        (np.full(3, "1"), "b3 is not of numbers but of dtype <U1"),
        (np.full(3, 1e300), "b3 holds NaN, infinity, or what is infinite in float32"),
    ],
)
def test_values_are_checked(value: Array, message: str) -> None:
    assert message in refusal(network(), {**state(), "fc2.bias": value})


def test_what_is_no_state_dict_is_refused() -> None:
    with pytest.raises(TypeError, match=re.escape("must be a mapping of names to arrays")):
        load_state_dict(network(), "model.pt")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Sequential of fastconv\.models, got dict$"):
        load_state_dict(state(), network())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got fastconv\.layers\.Affine$"):
        load_state_dict(Affine(np.ones((2, 2)), 0), state())  # type: ignore[arg-type]
    assert "\n0 " in refusal(network(), {0: np.ones(3)})  # type: ignore[dict-item]
    text = refusal(network(), {"epoch": 3, "state_dict": state()})  # a training checkpoint
    assert "Modules with parameters: 1," in text
    assert "epoch       ()" in text
    assert "does not fit" in refusal(network(), {})


# ---------------------------------------------------------------------------------------- PyTorch


def test_pytorch_s_network_gives_the_same_scores(torch: Any) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1, groups=2),
        torch.nn.BatchNorm2d(4, eps=10e-7),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(36, 36),
        torch.nn.ReLU(),
        torch.nn.Linear(36, 3, bias=False),
    )
    images = normal_values((5, 2, 6, 6))
    theirs.train()(torch.from_numpy(images))  # moves the running mean and variance
    with torch.no_grad():
        theirs[1].weight.uniform_(0.5, 2)
        expected = theirs.eval()(torch.from_numpy(images)).numpy()

    ours = Sequential((2, 6, 6)).convolution(4, 3, pad=1, groups=2).batch_normalization()
    ours.add(Relu(), Pooling(2, 2, 2), Flatten()).affine(36).add(Relu())
    ours.add(Affine(np.zeros((36, 3), np.float32), None))
    assert len(load_state_dict(ours, theirs.state_dict())) == 9
    assert_close(ours.predict(images), expected, np.float32, 36)
