"""The page's server and what it computes, without a browser."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PAD_MODES, Array, CommandResult, run_python

import fastconv
from fastconv._commands.explore import _pictures, _serve
from fastconv.datasets import load_digits
from fastconv.explore import _page
from fastconv.explore._application import MOST_KEPT, Application
from fastconv.explore._catalog import Picture, digits, distinct, patterns, resampled
from fastconv.explore._default import default_network
from fastconv.explore._kernel import LIMITS, Settings, forward
from fastconv.explore._load import data_set
from fastconv.explore._network import SequentialView
from fastconv.explore._protocol import MOST_BYTES, Refusal, packed, unpacked
from fastconv.explore._saved import saved_page
from fastconv.explore._server import MOST_CONNECTIONS, Server
from fastconv.layers import Pooling, Relu
from fastconv.models import ResNet, Sequential, SimpleConvNet

SETTINGS: dict[str, Any] = {
    "stride": 1,
    "dilation": 1,
    "padding": 1,
    "padMode": "constant",
    "relu": True,
    "pool": {"kind": "max", "size": 2, "stride": 2},
}


@pytest.fixture(scope="module")
def network() -> SequentialView:
    return default_network()


@pytest.fixture(scope="module")
def application(network: SequentialView) -> Application:
    return Application([*digits(), *patterns()], network)


@contextlib.contextmanager
def running(application: Application) -> Iterator[Server]:
    with Server(application) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[Server]:
    with running(application) as server:
        yield server


def ask(
    app: Application, question: str, settings: Any, **arrays: Array
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Ask a question and return settings and arrays, however many."""
    message = app.answer(question, packed(settings, arrays))
    length = int.from_bytes(message[:4], "little")
    header = json.loads(message[4 : 4 + length])
    found, start = {}, 4 + length
    for entry in header["arrays"]:
        dtype = np.dtype(entry["dtype"])
        size = int(np.prod(entry["shape"]))
        array = np.frombuffer(message, dtype, size, start)
        found[entry["name"]] = array.reshape(entry["shape"])
        start += -(-array.nbytes // 8) * 8
    assert start == len(message)
    return header["settings"], found


# ---- messages ----------------------------------------------------------------------------------


def test_messages_come_back() -> None:
    arrays: dict[str, Array] = {
        "a": np.arange(5, dtype=np.uint8),
        "b": np.linspace(0, 1, 6).reshape(2, 3),
        "c": np.ones((1, 2, 1, 3), np.float32),
        "d": np.array([[-7]], np.int32),
    }
    settings, found = unpacked(packed({"x": [1, "ä"]}, arrays))
    assert settings == {"x": [1, "ä"]}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def described(entry: object, data: bytes = b"") -> bytes:
    """Make a message with one array, described as it comes."""
    header = json.dumps({"settings": {}, "arrays": [entry]}).encode()
    header += b" " * (-(4 + len(header)) % 8)
    return len(header).to_bytes(4, "little") + header + data


GOOD = {"name": "image", "dtype": "uint8", "shape": [8]}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "length of its header"),
        (b"\xff\xff\xff\xff{}", "length of its header"),
        (b"\4\0\0\0nope", "JSON"),
        (b"\4\0\0\0\xff\xff\xff\xff", "JSON"),
        (b"\4\0\0\0[[]]", "keys settings and arrays"),
        (len(b"[" * 60000).to_bytes(4, "little") + b"[" * 60000, "JSON"),
        (b"\3\0\0\0NaN", "no NaN"),
        (described(7), "described by"),
        (described(GOOD | {"more": 1}), "described by"),
        (described(GOOD | {"name": "../x"}), "name of an array"),
        (described(GOOD | {"dtype": "object"}), "dtype of image"),
        (described(GOOD | {"dtype": ["uint8"]}), "dtype of image"),
        (described(GOOD | {"shape": []}), "list of 1 to 4"),
        (described(GOOD | {"shape": [0]}), "from 1 to 4096"),
        (described(GOOD | {"shape": [True]}), "from 1 to 4096"),
        (described(GOOD | {"shape": [4097]}), "from 1 to 4096"),
        (described(GOOD | {"shape": [8.0]}), "from 1 to 4096"),
        (described(GOOD), "bytes of image are missing"),
        (described(GOOD, bytes(16)), "must have"),
        (described(GOOD | {"dtype": "float64", "shape": [1]}, b"\xff" * 8), "finite"),
    ],
)
def test_broken_messages_are_refused(message: bytes, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        unpacked(message)


# ---- the kernel view ---------------------------------------------------------------------------


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("pool", ["none", "max", "average"])
def test_pictures_are_the_librarys(application: Application, pad_mode: str, pool: str) -> None:
    rng = np.random.default_rng(3)
    image, kernel = rng.integers(0, 256, (13, 11)).astype(np.uint8), rng.normal(size=(3, 4))
    if pool == "max":
        kernel = np.rint(3 * kernel)  # Whole numbers travel as float32, without loss.
    settings = SETTINGS | {
        "padMode": pad_mode,
        "dilation": 2,
        "padding": 3,
        "pool": {"kind": pool, "size": 3, "stride": 2},
    }
    _, found = ask(application, "forward", settings, image=image, kernel=kernel)
    response = fastconv.conv2d(
        image[None, None], kernel[None, None], padding=3, dilation=2, pad_mode=pad_mode
    )
    rectified = np.maximum(response, 0)
    np.testing.assert_array_equal(found["response"], response[0, 0])
    if pool == "none":
        assert "pooled" not in found
    else:
        function = fastconv.max_pool2d if pool == "max" else fastconv.avg_pool2d
        np.testing.assert_array_equal(found["pooled"], function(rectified, 3, 2)[0, 0])


@pytest.mark.parametrize("pool", ["none", "max", "average"])
@pytest.mark.parametrize("relu", [True, False])
def test_gradients_predict_the_change(application: Application, pool: str, relu: bool) -> None:
    """The pixel changes with the image as the gradient says: all of it is piecewise linear."""
    rng = np.random.default_rng(5)
    image, kernel = rng.normal(size=(7, 8)), rng.normal(size=(3, 3))
    settings = SETTINGS | {
        "padMode": "reflect",
        "relu": relu,
        "pool": {"kind": pool, "size": 2, "stride": 2},
    }

    def last(pixels: Array) -> Array:
        read = Settings.read({name: settings[name] for name in SETTINGS})
        found = forward(read, {"image": pixels, "kernel": kernel})
        result: Array = list(found.values())[-1]
        return result

    before = last(image)
    row, column = map(int, np.unravel_index(before.argmax(), before.shape))
    place = {"row": row, "column": column}
    _, grads = ask(application, "backward", settings | place, image=image, kernel=kernel)
    assert grads["gradImage"].shape == image.shape
    step = 1e-7 * rng.normal(size=image.shape)
    change = last(image + step)[row, column] - before[row, column]
    assert change == pytest.approx((grads["gradImage"] * step).sum(), rel=1e-5)
    if pool == "max":
        assert np.count_nonzero(grads["gradRectified"]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(({name: low - 1}, f"{name} must") for name, (low, _) in list(LIMITS.items())[:3]),
        *(({name: high + 1}, f"{name} must") for name, (_, high) in list(LIMITS.items())[:3]),
        ({"stride": 1.0}, "stride must"),
        ({"stride": True}, "stride must"),
        ({"padMode": "empty"}, "padMode must be one of"),
        ({"padMode": []}, "padMode must be one of"),
        ({"relu": 1}, "relu must be"),
        ({"pool": None}, "pool must have"),
        ({"pool": {"kind": "min", "size": 2, "stride": 2}}, "kind of pool"),
        ({"pool": {"kind": "max", "size": 0, "stride": 2}}, "poolSize must"),
        ({"pool": {"kind": "max", "size": 9, "stride": 2}}, "fit"),
        ({"more": 1}, "settings must be"),
    ],
)
def test_bad_settings_are_refused(
    application: Application, change: dict[str, Any], words: str
) -> None:
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(Refusal, match=words):
        ask(application, "forward", SETTINGS | change, image=image, kernel=np.ones((3, 3)))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "image is needed"),
        ({"image": np.ones((2, 2))}, "are needed"),
        ({"kernel": np.ones((2, 2))}, "image is needed"),
        ({"image": np.ones((1, 2, 2)), "kernel": np.ones((1, 1))}, "two axes"),
        ({"image": np.ones((9, 9)), "kernel": np.ones((8, 1))}, "at most 7"),
        ({"image": np.ones((2, 2)), "kernel": np.ones((7, 7))}, "does not fit"),
    ],
)
def test_bad_arrays_are_refused(
    application: Application, arrays: dict[str, Array], words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        ask(application, "forward", SETTINGS, **arrays)


def test_images_are_kept_by_name(application: Application) -> None:
    kernel, image = np.ones((3, 3)), np.arange(16.0).reshape(4, 4)
    named, first = ask(application, "forward", SETTINGS, image=image, kernel=kernel)
    again, second = ask(application, "forward", SETTINGS | named, kernel=kernel)
    assert again == named
    np.testing.assert_array_equal(first["response"], second["response"])
    for _ in range(MOST_KEPT):
        ask(application, "forward", SETTINGS, image=image, kernel=kernel)
    with pytest.raises(Refusal, match="image is needed") as caught:
        ask(application, "forward", SETTINGS | named, kernel=kernel)
    assert caught.value.status == 410


@pytest.mark.parametrize("place", [{}, {"row": 4, "column": 0}, {"row": 0, "column": -1}])
def test_gradients_of_no_pixel_are_refused(application: Application, place: dict[str, int]) -> None:
    image, kernel = np.ones((8, 8)), np.ones((3, 3))
    with pytest.raises(Refusal, match="whole number from 0 to 3"):
        ask(application, "backward", SETTINGS | place, image=image, kernel=kernel)


# ---- the network view --------------------------------------------------------------------------


def test_default_network_has_learned(network: SequentialView) -> None:
    (_, _), (images, labels) = load_digits()
    inputs = resampled(images, (16, 16)).astype(np.float32)
    assert network.network.accuracy(inputs, labels) > 0.95
    assert default_network().network.params["W1"].tobytes() == (
        network.network.params["W1"].tobytes()
    )


def test_maps_are_the_networks(application: Application, network: SequentialView) -> None:
    picture = digits()[3]
    image = resampled(picture.pixels / 16, (16, 16))[None].astype(np.float32)
    _, found = ask(application, "maps", {"high": 16}, image=picture.pixels)
    np.testing.assert_array_equal(found["input"], image[0])
    for i, output in enumerate(network.network.activations(image).values()):
        np.testing.assert_array_equal(found[f"map{i}"], output[0])
    assert found["probabilities"].sum() == pytest.approx(1)
    assert found["scores"].argmax() == found["probabilities"].argmax() == 3


def test_channel_tells_filter_and_exciting_images(
    application: Application, network: SequentialView
) -> None:
    question = {"high": 255, "layer": "Conv2", "channel": 5}
    _, found = ask(application, "channel", question, image=np.zeros((3, 40, 30), np.uint8))
    assert found["map"].shape == (8, 8)
    np.testing.assert_array_equal(found["filter"], network.network.params["W2"][5])
    assert not np.array_equal(found["filter"], found["filterBefore"])
    outputs = network.network.activations(network.images, ["Conv2"])["Conv2"][:, 5]
    most = outputs.max(axis=(1, 2))
    np.testing.assert_allclose(found["bestValues"], np.sort(most)[::-1][:9], rtol=1e-6)
    best = np.rint(network.images[most.argmax()] * 255)
    np.testing.assert_array_equal(found["best"][0], best)


def test_maximum_excites_more_than_any_image(
    application: Application, network: SequentialView
) -> None:
    settings, found = ask(application, "maximum", {"layer": "Relu2", "channel": 2})
    assert settings["of"] == "Conv2"
    output = network.network.activations(found["image"][None], ["Conv2"])["Conv2"][0, 2]
    assert output.mean() == pytest.approx(settings["activations"][1], rel=1e-3)
    images = network.network.activations(network.images, ["Conv2"])["Conv2"][:, 2]
    assert output.mean() > images.mean(axis=(1, 2)).max()


def test_maxima_and_heat_need_no_matplotlib() -> None:
    result = run_python(
        "import sys\n"
        "import numpy as np\n"
        "sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
        "from fastconv.explore._network import SequentialView\n"
        "from fastconv.models import SimpleConvNet\n"
        "image = np.zeros((1, 1, 28, 28), np.float32)\n"
        "view = SequentialView(SimpleConvNet(seed=0), image, 'title')\n"
        "settings, found = view.maps({'high': 1}, {'image': image[0]})\n"
        "print(settings, 'heat' in found, view.ascent('Conv1', 0)[0].shape)\n"
    )
    assert result.stdout == "{} True (1, 28, 28)\n", result.stderr


def test_receptive_fields_hold_what_matters(network: SequentialView) -> None:
    """A pixel outside of the field changes nothing, and one at its corner may."""
    field = next(layer for layer in network.layers if layer.name == "Conv3").fields["input"]
    (size, _), (stride, _), (offset, _) = field
    first = offset + 4 * stride
    image = np.random.default_rng(0).random((1, 1, 16, 16)).astype(np.float32)

    def pixel(array: Array) -> Array:
        result: Array = network.network.activations(array, ["Conv3"])["Conv3"][0, :, 4, 4]
        return result

    outside = image.copy()
    inside = np.zeros((16, 16), bool)
    inside[first : first + size, first : first + size] = True
    outside[0, 0, ~inside] = 9
    np.testing.assert_array_equal(pixel(outside), pixel(image))
    assert not inside.all()
    assert field == [list(pair) for pair in network.network.receptive_field("Conv3")]


@pytest.mark.parametrize(
    ("question", "settings", "words"),
    [
        ("channel", {"high": 255, "layer": "Conv9", "channel": 0}, "name of a layer"),
        ("channel", {"high": 255, "layer": "Conv1", "channel": 8}, "from 0 to 7"),
        ("channel", {"high": 0, "layer": "Conv1", "channel": 0}, "brightest"),
        ("channel", {"high": "1", "layer": "Conv1", "channel": 0}, "brightest"),
        ("maximum", {"layer": ["Conv1"], "channel": 0}, "name of a layer"),
        ("nothing", {}, "no question"),
    ],
)
def test_bad_questions_are_refused(
    application: Application, question: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refusal, match=words):
        ask(application, question, settings, image=np.ones((1, 4, 4)))


def test_networks_that_hold_layers_have_maps() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((3, 3, 32, 32)).astype(np.float32)
    view = SequentialView(ResNet(20, seed=0), images, "ResNet")
    _, found = view.maps({"high": 255}, {"image": np.zeros((3, 50, 60), np.uint8)})
    assert found["map3"].shape == (16, 32, 32)
    assert "Residual1" in {layer.name for layer in view.layers}
    settings, found = view.maximum({"layer": "Residual9", "channel": 1})
    assert settings["of"] == "Residual9"
    assert found["image"].shape == (3, 32, 32)


def test_onnx_models_show_the_same() -> None:
    from fastconv.explore._onnx import OnnxView
    from fastconv.onnx import InferenceSession
    from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

    net = Sequential((1, 12, 12), seed=0).convolution(4, 3, pad=1).add(Relu(), Pooling(2, 2, 2))
    net.convolution(6, 3, stride=2, pad=1).add(Relu()).affine(5)
    nodes = [
        NodeToWrite("Conv", ["x", "W1", "b1"], ["sums"], {"pads": (1, 1, 1, 1)}),
        NodeToWrite("Relu", ["sums"], ["rectified"], {}),
        NodeToWrite(
            "MaxPool", ["rectified"], ["pooled"], {"kernel_shape": (2, 2), "strides": (2, 2)}
        ),
        NodeToWrite(
            "Conv", ["pooled", "W2", "b2"], ["more"], {"pads": (1, 1, 1, 1), "strides": (2, 2)}
        ),
        NodeToWrite("Relu", ["more"], ["features"], {}),
        NodeToWrite("Flatten", ["features"], ["flat"], {}),
        NodeToWrite("Gemm", ["flat", "W3", "b3"], ["scores"], {}),
    ]
    image = Described("x", np.float32, ["N", 1, 12, 12])
    scores = Described("scores", np.float32, ["N", 5])
    model = model_bytes(nodes, [image], [scores], dict(net.params), opset=17)
    images = np.random.default_rng(0).random((7, 1, 12, 12)).astype(np.float32)
    view = OnnxView(InferenceSession(model), images, "model")
    ours = SequentialView(net, images, "ours")
    arrays = {"image": np.arange(144, dtype=np.uint8).reshape(1, 12, 12)}
    _, found = view.maps({"high": 255}, arrays)
    _, expected = ours.maps({"high": 255}, arrays)
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-4, atol=1e-5)
    convolutions = [layer for layer in view.layers if layer.window.startswith("Conv")]
    question = {"high": 255, "layer": convolutions[1].name, "channel": 2}
    _, found = view.channel(question, arrays)
    _, expected = ours.channel(question | {"layer": "Conv2"}, arrays)
    np.testing.assert_allclose(found["map"], expected["map"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found["filter"], expected["filter"])
    np.testing.assert_allclose(found["bestValues"], expected["bestValues"], rtol=1e-4)
    assert convolutions[1].fields["input"] == ours.layers[3].fields["input"]
    assert convolutions[1].fields[convolutions[0].name] == ours.layers[3].fields["Conv1"]
    _, found = view.maps({"high": 255}, arrays)
    _, expected = ours.maps({"high": 255}, arrays)
    np.testing.assert_allclose(found["heat"], expected["heat"], rtol=0.02, atol=1e-4)
    assert found["heat"].max() > 0
    with pytest.raises(Refusal, match="gradients"):
        view.maximum({"layer": convolutions[0].name, "channel": 0})


def test_onnx_shortcuts_have_receptive_fields(tmp_path: Path) -> None:
    """Identity shortcuts with a stride consist of a Slice and a Pad."""
    from fastconv.explore._onnx import OnnxView
    from fastconv.onnx import InferenceSession, export

    network = ResNet(20, seed=0)
    export(network, tmp_path / "model.onnx")
    images = np.zeros((1, 3, 32, 32), np.float32)
    view = OnnxView(InferenceSession(tmp_path / "model.onnx"), images, "model")
    ours = SequentialView(network, images, "ours")
    fields = {layer.name: layer.fields for layer in view.layers}
    for layer in ours.layers:
        if layer.name in ("Residual1", "Residual4", "Residual9"):
            assert fields[layer.name]["input"] == layer.fields["input"]


def test_onnx_probabilities_and_branches() -> None:
    """Scores behind a Softmax are probabilities; one branch that sees everything is enough."""
    from fastconv.explore._onnx import OnnxView
    from fastconv.onnx import InferenceSession
    from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

    rng = np.random.default_rng(0)
    weights = {"W1": rng.normal(size=(2, 1, 3, 3)), "W2": rng.normal(size=(2, 2, 1, 1))}
    pads = {"pads": (1, 1, 1, 1)}
    nodes = [
        NodeToWrite("Conv", ["x", "W1"], ["early"], pads),
        NodeToWrite("Conv", ["early", "W2"], ["gate"], {}),
        # Every output depends on a whole row.
        NodeToWrite("Softmax", ["gate"], ["shares"], {"axis": 3}),
        NodeToWrite("Mul", ["early", "shares"], ["gated"], {}),
        NodeToWrite("GlobalAveragePool", ["gated"], ["means"], {}),
        NodeToWrite("Flatten", ["means"], ["scores"], {}),
        NodeToWrite("Softmax", ["scores"], ["probabilities"], {"axis": 1}),
    ]
    image = Described("x", np.float32, ["N", 1, 6, 6])
    result = Described("probabilities", np.float32, ["N", 2])
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    model = model_bytes(nodes, [image], [result], constants, opset=17)
    images = rng.random((2, 1, 6, 6)).astype(np.float32)
    view = OnnxView(InferenceSession(model), images, "model")
    _, found = view.maps({"high": 1}, {"image": images[0]})
    np.testing.assert_array_equal(found["probabilities"], found["scores"])
    assert found["probabilities"].sum() == pytest.approx(1)
    fields = {layer.name: layer.fields for layer in view.layers}
    assert fields["gate"]["input"] == [[3, 3], [1, 1], [-1, -1]]
    assert not {"input", "early", "gate"} & fields["gated"].keys()


# ---- the server --------------------------------------------------------------------------------


def request(
    server: Server,
    method: str = "GET",
    path: str | None = None,
    body: bytes | None = None,
    **headers: Any,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        target = f"/{server.token}/" if path is None else path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, named)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


MESSAGE = {"Content_Type": "application/octet-stream"}


def test_serves_the_page(server: Server) -> None:
    status, headers, body = request(server)
    assert status == 200
    assert b'<script type="module" src="main.js">' in body
    assert "'unsafe" not in headers["Content-Security-Policy"]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Referrer-Policy"] == "no-referrer"
    for name in _page.page_files():
        status, headers, body = request(server, path=f"/{server.token}/{name}")
        assert (status, body.decode()) == (200, _page.page_file(name))


def test_answers_questions(server: Server) -> None:
    arrays = {"image": np.ones((4, 4)), "kernel": np.ones((3, 3))}
    path = f"/{server.token}/forward"
    status, headers, body = request(server, "POST", path, packed(SETTINGS, arrays), **MESSAGE)
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    _, found = unpacked(body)
    assert found["response"].tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (403, "GET", "/", {}),
        (403, "GET", "/wrong/", {}),
        (403, "GET", "/TOKEN", {}),
        (404, "GET", "/TOKEN/../../pyproject.toml", {}),
        (404, "GET", "/TOKEN/%2e%2e/__init__.py", {}),
        (404, "GET", "/TOKEN//etc/passwd", {}),
        (404, "GET", "/TOKEN/index.html?x", {}),
        (404, "POST", "/TOKEN/index.html", MESSAGE),
        (404, "GET", "/TOKEN/forward", {}),
        (415, "POST", "/TOKEN/forward", {"Content_Type": "text/plain"}),
        (421, "GET", "/TOKEN/", {"Host": "evil.example:PORT"}),
        (421, "GET", "/TOKEN/", {"Host": "127.0.0.1:1"}),
        (421, "GET", "/TOKEN/", {"Host": "user@127.0.0.1:PORT"}),
        (421, "GET", "/TOKEN/", {"Host": "127.0.0.1:PORT:"}),
        (403, "POST", "/TOKEN/forward", MESSAGE | {"Origin": "http://evil.example"}),
        (403, "POST", "/TOKEN/forward", MESSAGE | {"Origin": "null"}),
        (403, "POST", "/TOKEN/forward", MESSAGE | {"Origin": "https://127.0.0.1:PORT"}),
        (411, "POST", "/TOKEN/forward", MESSAGE | {"Transfer_Encoding": "chunked"}),
        (400, "POST", "/TOKEN/forward", MESSAGE | {"Content_Length": "-1"}),
        (413, "POST", "/TOKEN/forward", MESSAGE | {"Content_Length": str(MOST_BYTES + 1)}),
        (413, "POST", "/TOKEN/forward", MESSAGE | {"Content_Length": "9" * 30}),
        (405, "DELETE", "/TOKEN/", {}),
        (405, "PUT", "/TOKEN/forward", {}),
        (405, "HEAD", "/TOKEN/", {}),
    ],
)
def test_refuses(
    server: Server, status: int, method: str, path: str, headers: dict[str, str]
) -> None:
    def filled(text: str) -> str:
        return text.replace("TOKEN", server.token).replace("PORT", str(server.port))

    given: dict[str, Any] = {name: filled(value) for name, value in headers.items()}
    found, answered, body = request(server, method, filled(path), **given)
    assert found == status
    assert "Content-Security-Policy" in answered
    if method != "HEAD":
        assert set(json.loads(body)) == {"error"}


def test_refuses_a_message_that_ends_early(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = (
            f"POST /{server.token}/forward HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n"
        )
        connection.sendall(head.encode() + b"short")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def malformed(rng: np.random.Generator, server: Server) -> bytes:
    """Make a request that is broken in one of many ways."""
    host = f"Host: 127.0.0.1:{server.port}\r\n"
    kind = "Content-Type: application/octet-stream\r\n"
    noise = bytes(rng.integers(1, 256, int(rng.integers(1, 200)), np.uint8))
    body = bytearray(packed(SETTINGS, {"image": np.ones((4, 4)), "kernel": np.ones((3, 3))}))
    for place in rng.integers(0, 40, 3):
        body[place] = int(rng.integers(128, 256))  # In the header, where UTF-8 has no such bytes.
    post = f"POST /{server.token}/forward HTTP/1.1\r\n"
    choices = [
        b"X" + noise + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        f"GET /{server.token}/ HTTP/1.1\r\n{host}{host}\r\n".encode(),
        f"GET /{server.token}/ HTTP/1.1\r\n{host}".encode() + b"A: b\r\n" * 200 + b"\r\n",
        f"{post}{host}{kind}Content-Length: {len(body)}\r\n\r\n".encode() + bytes(body),
        f"{post}{host}{kind}Content-Length: {len(noise)}\r\n\r\n".encode() + noise,
        f"{post}{host}{kind}Content-Length: 0\r\n\r\n".encode(),
        f"{post}{kind}Content-Length: 0\r\n\r\n".encode(),
        f"{post}{host}{kind}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab".encode(),
    ]
    return choices[int(rng.integers(len(choices)))]


def test_survives_malformed_requests(server: Server) -> None:
    rng = np.random.default_rng(7)
    for _ in range(500):
        sent = malformed(rng, server)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(64)
        assert re.match(rb"HTTP/1\.1 4\d\d ", answer), (sent[:200], answer)
    assert request(server)[0] == 200


@pytest.fixture
def crowded(application: Application) -> Iterator[tuple[Server, list[socket.socket]]]:
    """Start a server with as many connections as there may be."""
    with contextlib.ExitStack() as stack, running(application) as server:
        address = ("127.0.0.1", server.port)
        connections = [
            stack.enter_context(socket.create_connection(address, timeout=10))
            for _ in range(MOST_CONNECTIONS)
        ]
        wait_until(lambda: len(server._waiting) == MOST_CONNECTIONS)
        yield server, connections


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_so():
            return
        threading.Event().wait(0.02)
    pytest.fail("the server does not come so far")


def test_slow_clients_make_room(crowded: tuple[Server, list[socket.socket]]) -> None:
    server, connections = crowded
    for connection in connections:
        connection.sendall(b"GET /")
    for _ in range(3):
        assert request(server)[0] == 200
    closed = [connection for connection in connections if select.select([connection], [], [], 0)[0]]
    assert [connection.recv(1) for connection in closed] == [b""] * len(closed)
    assert 1 <= len(closed) <= 3


def test_bounds_connections(crowded: tuple[Server, list[socket.socket]]) -> None:
    """Nobody is sent away whose request has begun to be answered."""
    server, connections = crowded
    head = (
        f"POST /{server.token}/forward HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\n"
    )
    for connection in connections:
        connection.sendall(head.encode())
    wait_until(lambda: not server._waiting)
    with pytest.raises(ConnectionError):
        request(server)
    for connection in connections:
        connection.sendall(bytes(100))
        assert connection.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize(
    ("host", "authority", "known"),
    [
        ("127.0.0.1", "127.0.0.1:{}", True),
        ("127.0.0.1", "localhost:{}", True),
        ("127.0.0.1", "[::1]:{}", True),
        ("127.0.0.1", "192.168.0.7:{}", False),
        ("127.0.0.1", "name.example:{}", False),
        ("0.0.0.0", "192.168.0.7:{}", True),
        ("0.0.0.0", "name.example:{}", False),
        ("0.0.0.0", f"{socket.gethostname()}:{{}}", True),
        ("127.0.0.1", "name.local:{}", False),
    ],
)
def test_knows_its_names(application: Application, host: str, authority: str, known: bool) -> None:
    with Server(application, host) as server:
        assert server.knows(authority.format(server.port)) is known


# ---- the command and the page as one file ------------------------------------------------------

Command = Callable[..., CommandResult]


def test_command_serves_until_interrupted() -> None:
    code = (
        "import _thread, sys, threading, urllib.request\n"
        "from fastconv.__main__ import main\n"
        "class Out:\n"
        "    def write(self, text):\n"
        "        sys.__stdout__.write(text)\n"
        "        if text.startswith('http'):\n"
        "            threading.Thread(target=visit, args=(text.split()[0],)).start()\n"
        "    def flush(self): sys.__stdout__.flush()\n"
        "def visit(url):\n"
        "    print(urllib.request.urlopen(url).status, file=sys.__stdout__)\n"
        "    _thread.interrupt_main()\n"
        "sys.stdout = Out()\n"
        "sys.exit(main(['explore', '--no-browser']))\n"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert re.match(r"http://127\.0\.0\.1:\d+/[\w-]{22}/\nCtrl-C ends it\n200\n", result.stdout)


def test_command_loads_networks(command: Command, tmp_path: Path) -> None:
    from fastconv.explore._load import network_of

    net = SimpleConvNet((1, 28, 28), seed=4)
    net.save_params(tmp_path / "params.npz")
    assert network_of(str(tmp_path / "params.npz")).params["W3"].shape == (100, 10)
    Sequential((4,), seed=0).affine(2).save_params(tmp_path / "other.npz")
    result = command("explore", "--network", tmp_path / "other.npz", "--no-browser")
    assert result.code == 2
    assert "--onnx FILE" in result.err


def test_pictures_of_the_user(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image.fromarray(colours).save(tmp_path / "small.png")
    deep = np.full((1030, 2060), 1 << 15, np.uint16)
    image.fromarray(deep).save(tmp_path / "large.png")
    small, large = _pictures([str(tmp_path / "small.png"), str(tmp_path / "large.png")])
    assert (small.name, large.name) == ("small.png", "large.png")
    np.testing.assert_array_equal(small.pixels, colours.transpose(2, 0, 1))
    assert large.pixels.shape == (1, 512, 1024)
    assert np.unique(large.pixels).tolist() == [128]
    assert data_set((3, 8, 8), [small, large], named=True).shape == (2, 3, 8, 8)
    assert data_set((1, 8, 8), [small], named=False).shape == (359, 1, 8, 8)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [picture.name for picture in _pictures([str(tmp_path)])] == ["large.png", "small.png"]


def test_no_more_pictures_than_the_page_lists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for i in range(51):
        image.new("L", (2, 2)).save(tmp_path / f"{i}.png")
    assert len(_pictures([str(tmp_path)])) == 50
    assert "only 50 pictures" in capsys.readouterr().err


def test_pictures_of_one_name_are_told_apart() -> None:
    pictures = [Picture(name, np.zeros((1, 2, 2), np.uint8)) for name in ("a", "a (2)", "a", "a")]
    names = [picture.name for picture in distinct(pictures)]
    assert names == ["a", "a (2)", "a (3)", "a (4)"]


def test_other_computers_are_warned_of(
    application: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Server) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", interrupted)
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        args = argparse.Namespace(host=host, port=0, no_browser=True)
        assert _serve(args, [], application.network) == 0
        printed = capsys.readouterr()
        assert ("warning" in printed.err) is warned
        assert ("from other computers" in printed.out) is warned
        assert "0.0.0.0" not in printed.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--network", "missing.npz"], "No such file"),
        (["--onnx", "missing.onnx"], "No such file"),
        (["--onnx", "broken"], "broken"),
        (["--network", "broken"], "no file of parameters"),
        (["--images", "missing.png"], "No such file"),
        (["--images", "broken"], "not an IDX file"),
        (["--save", "missing/page.html"], "cannot write"),
        (["--save", "x.html", "--onnx", "broken"], "--save needs"),
        (["--port", "70000"], "from 0 to 65535"),
        (["--network", "a", "--onnx", "b"], "not allowed with"),
    ],
)
def test_command_names_what_is_wrong(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_bytes(b"nonsense")
    result = command("explore", "--no-browser", *args)
    assert result.code == 2
    assert words in result.err


def test_saved_page_is_one_file(network: SequentialView) -> None:
    page = saved_page(digits(), network)
    assert not re.search(r'(src|href)="', page.split('id="data"')[0])
    assert "import {" not in page
    assert 100_000 < len(page) < 1_000_000


def test_what_cannot_be_saved_is_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = SequentialView(ResNet(20, seed=0), np.zeros((2, 3, 32, 32), np.float32), "ResNet")
    monkeypatch.setattr(SequentialView, "ascent", None)
    with pytest.raises(Refusal, match="cannot compute BatchNormalization1"):
        saved_page(digits(), deep)


def test_saving_changes_no_network() -> None:
    images = np.zeros((401, 1, 4, 4), np.float32)
    view = SequentialView(Sequential((1, 4, 4), seed=0).affine(2), images, "title")
    saved_page(digits()[:1], view)
    assert view.images is images


def test_modules_share_no_names() -> None:
    """Bundles are modules whose top-level names must differ."""
    names = re.findall(
        r"^(?:export )?(?:async )?(?:const|let|class|function) (\w+)",
        "\n".join(text for name, text in _page.page_files().items() if name.endswith(".js")),
        re.MULTILINE,
    )
    assert len(names) > 50
    repeated = {name for name in names if names.count(name) > 1}
    # These belong to main.js and saved.js, of which a page has one.
    assert repeated <= {"root", "backend", "script"}


def test_widget_answers_messages() -> None:
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    from fastconv import viz

    widget = viz.explore(np.arange(30.0).reshape(5, 6), np.ones((3, 3)))
    sent: list[Any] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))
    widget._handle_custom_msg({"id": 1, "question": "start"}, [])
    arrays = {"image": np.ones((5, 6)), "kernel": np.ones((3, 3))}
    message = packed(SETTINGS | {"padding": 0}, arrays)
    widget._handle_custom_msg({"id": 2, "question": "forward"}, [memoryview(message)])
    widget._handle_custom_msg({"id": 3, "question": "forward"}, [b"nonsense"])
    (first, _), (second, (body,)), (third, _) = sent
    assert (first, second) == ({"id": 1}, {"id": 2})
    assert (unpacked(body)[1]["response"] == 9).all()
    assert third == {"id": 3, "error": third["error"], "status": 400}


@pytest.mark.parametrize(
    ("image", "kernel", "words"),
    [
        (np.ones(3), np.ones((3, 3)), "image must have shape"),
        (np.full((3, 3), np.nan), np.ones((3, 3)), "image must be finite"),
        (np.ones((3, 3)), np.ones((8, 3)), "kernel must have at most 7"),
    ],
)
def test_widget_refuses(image: Array, kernel: Array, words: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from fastconv import viz

    with pytest.raises(ValueError, match=f"explore: {words}"):
        viz.explore(image, kernel)
