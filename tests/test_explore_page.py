"""The page in a real browser: a headless Chromium, through Playwright.

``pip install playwright`` and a Chromium of the system are needed, on Debian and Ubuntu
``apt-get install chromium``; another browser can be named with FASTCONV_CHROMIUM.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PAD_MODES, Array

import fastconv
from fastconv._filter_bank import FILTERS
from fastconv.explore._application import Application
from fastconv.explore._catalog import digits, patterns, resampled
from fastconv.explore._default import default_network
from fastconv.explore._network import SequentialView
from fastconv.explore._page import bundled
from fastconv.explore._protocol import Refusal
from fastconv.explore._saved import saved_page
from fastconv.explore._server import Server

playwright: Any = None
with contextlib.suppress(ImportError):
    playwright = importlib.import_module("playwright.sync_api")
CHROMIUM = os.environ.get("FASTCONV_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if playwright is None or CHROMIUM is None:
    MISSING = (
        "the tests of the page need Playwright and a Chromium: pip install playwright, "
        "apt-get install chromium"
    )
    if os.environ.get("FASTCONV_REQUIRE_BROWSER") == "1":
        raise RuntimeError(MISSING)
    pytest.skip(MISSING, allow_module_level=True)

LOADED = """() => new Promise((resolve) => {
    const look = () => (window.fastconv ? resolve() : setTimeout(look, 10));
    look();
})"""
CONTROLS = (
    *("Image", "Preset", "Kernel size", "Stride", "Dilation", "Padding", "Pad mode", "ReLU"),
    *("Pooling", "Pool size", "Pool stride", "View"),
)
NETWORK_CONTROLS = ("Image", "View", "Layer", "Channel", "Opacity")


@pytest.fixture(scope="module")
def network() -> SequentialView:
    return default_network()


@pytest.fixture(scope="module")
def url(network: SequentialView) -> Iterator[str]:
    with Server(Application([*digits(), *patterns()], network)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        # In a container, Chromium's own sandbox cannot be set up by root.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        # A camera that shows a test pattern, and is allowed at once.
        arguments += [f"--use-fake-{part}-for-media-stream" for part in ("device", "ui")]
        launched = running.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


Faults = list[str]


def new_page(browser: Any, address: str, faults: Faults, **options: Any) -> Any:
    """Open a page; whatever it prints or asks of other hosts is noted as a fault."""
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
    page.set_default_timeout(10_000)
    origin = address if address.startswith("http") else "file:"
    expected = (origin, "data:", "blob:")

    def told(message: Any) -> None:
        # Chromium tells of every answer that is an error, and how to read pixels faster, which
        # some tests do.
        if not re.search("status of 400|willReadFrequently", message.text):
            faults.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith(expected):
            faults.append(request.url)

    page.on("console", told)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", asked)
    page.goto(address)
    page.evaluate(LOADED)
    return page


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages, each in a window of its own."""
    pages: list[Any] = []
    faults: Faults = []

    def opened(address: str, **options: Any) -> Any:
        pages.append(new_page(browser, address, faults, **options))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()
    assert not faults


@pytest.fixture(scope="module")
def shared_page(browser: Any, url: str) -> tuple[Any, Faults]:
    faults: Faults = []
    return new_page(browser, url, faults), faults


@pytest.fixture
def page(shared_page: tuple[Any, Faults], url: str) -> Iterator[Any]:
    """Show the served page as it begins, in one window for all tests: new ones take time."""
    page, faults = shared_page
    page.mouse.move(0, 0)
    page.goto(url)
    page.evaluate(LOADED)
    yield page
    assert not faults
    faults.clear()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, network: SequentialView) -> str:
    path = tmp_path_factory.mktemp("saved") / "page.html"
    path.write_text(saved_page([*digits(), *patterns()], network), encoding="utf-8")
    return path.as_uri()


def control(page: Any, name: str) -> Any:
    """Find a control by the name that a screen reader tells."""
    found = page.get_by_label(name, exact=True).locator("visible=true")
    assert found.count() == 1, name
    return found


def state(page: Any) -> dict[str, Any]:
    page.evaluate("fastconv.ready()")
    found: dict[str, Any] = page.evaluate("fastconv.state()")
    return found


def set_up(page: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Set the page's controls at random and return what was set."""
    size = int(rng.integers(1, 5))
    wanted: dict[str, Any] = {
        "kernel": np.round(rng.normal(size=(size, size)), 3),
        "stride": int(rng.integers(1, 4)),
        "dilation": int(rng.integers(1, 3)),
        "padding": int(rng.integers(2, 6)),
        "padMode": str(rng.choice(PAD_MODES)),
        "relu": bool(rng.integers(2)),
        "pool": {
            "kind": str(rng.choice(["none", "max", "average"])),
            "size": int(rng.integers(1, 3)),
            "stride": int(rng.integers(1, 4)),
        },
    }
    control(page, "Image").select_option(f"Digit {rng.integers(10)}")
    control(page, "Kernel size").fill(str(size))
    for row in range(size):
        for column in range(size):
            name = f"Kernel row {row + 1} column {column + 1}"
            control(page, name).fill(str(wanted["kernel"][row, column]))
    for name, key in (("Stride", "stride"), ("Dilation", "dilation"), ("Padding", "padding")):
        control(page, name).fill(str(wanted[key]))
    control(page, "Pad mode").select_option(wanted["padMode"])
    control(page, "ReLU").set_checked(wanted["relu"])
    control(page, "Pooling").select_option(wanted["pool"]["kind"])
    control(page, "Pool size").fill(str(wanted["pool"]["size"]))
    control(page, "Pool stride").fill(str(wanted["pool"]["stride"]))
    return wanted


def expected(image: Array, wanted: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Compute the pictures with the library's functions."""
    response = fastconv.conv2d(
        image[None, None],
        np.asarray(wanted["kernel"], float)[None, None],
        stride=wanted["stride"],
        padding=wanted["padding"],
        dilation=wanted["dilation"],
        pad_mode=wanted["padMode"],
    )
    rectified = np.maximum(response, 0) if wanted["relu"] else response
    pool = wanted["pool"]
    pooled = rectified
    if pool["kind"] == "max":
        pooled = fastconv.max_pool2d(rectified, pool["size"], pool["stride"])
    elif pool["kind"] == "average":
        pooled = fastconv.avg_pool2d(rectified, pool["size"], pool["stride"])
    return response[0, 0], rectified[0, 0], pooled[0, 0]


def check_against_library(page: Any, wanted: dict[str, Any], tolerance: float) -> None:
    found = state(page)
    assert found["error"] == ""
    for key in ("stride", "dilation", "padding", "padMode", "relu", "pool"):
        assert found[key] == wanted[key]
    np.testing.assert_array_equal(found["kernel"], wanted["kernel"])
    results = expected(np.asarray(found["image"], float), wanted)
    for name, result in zip(("response", "rectified", "pooled"), results):
        np.testing.assert_allclose(found[name], result, rtol=tolerance, atol=tolerance)


# ---- the kernel view ---------------------------------------------------------------------------


def test_controls_have_their_names(page: Any) -> None:
    for name in CONTROLS:
        control(page, name)
    control(page, "View").select_option("network")
    for name in NETWORK_CONTROLS:
        control(page, name)


def test_results_are_the_librarys(page: Any) -> None:
    rng = np.random.default_rng(11)
    for _ in range(3):
        wanted = set_up(page, rng)
        check_against_library(page, wanted, 0)


def test_saved_page_computes_the_same(open_page: Callable[..., Any], saved: str) -> None:
    page = open_page(saved)
    rng = np.random.default_rng(12)
    for _ in range(2):
        wanted = set_up(page, rng)
        check_against_library(page, wanted, 1e-13)


def test_arithmetic_equals_the_library(page: Any) -> None:
    """Compare the JavaScript implementation with the library in many more cases."""
    rng = np.random.default_rng(13)
    cases = []
    for i in range(80):
        height, width = map(int, rng.integers(3, 10, 2))
        image = rng.integers(-9, 10, (height, width))
        cases.append(
            {
                "image": image.tolist(),
                "kernel": rng.integers(-4, 5, rng.integers(1, 4, 2)).tolist(),
                "stride": int(rng.integers(1, 4)),
                "dilation": int(rng.integers(1, 4)),
                "padding": int(rng.integers(3, 14)),  # Also more than once around the image.
                "padMode": PAD_MODES[i % len(PAD_MODES)],
                "relu": bool(i % 2),
                "pool": {
                    "kind": ("none", "max", "average")[i % 3],
                    "size": 1 + i % 2,
                    "stride": 1 + i % 3,
                },
            }
        )
    results = page.evaluate(
        """async (cases) => {
            const { backward, forward } = await import(location.href + "arithmetic.js");
            const { nested } = await import(location.href + "state.js");
            const plane = (rows) => ({
                height: rows.length, width: rows[0].length, data: Float64Array.from(rows.flat()),
            });
            return cases.map(({ image, kernel, ...settings }) => {
                const planes = [plane(image), plane(kernel)];
                const found = forward(...planes, settings);
                const place = { row: 0, column: found.pooled.width - 1 };
                const grads = backward(...planes, settings, found, place);
                return Object.fromEntries(
                    Object.entries({ ...found, ...grads }).map(([k, v]) => [k, nested(v)]));
            });
        }""",
        cases,
    )
    from fastconv.explore._kernel import Settings, backward

    names = ("stride", "dilation", "padding", "padMode", "relu", "pool")
    for case, found in zip(cases, results):
        arrays = {name: np.asarray(case[name], float) for name in ("image", "kernel")}
        for name, result in zip(
            ("response", "rectified", "pooled"), expected(arrays["image"], case)
        ):
            np.testing.assert_allclose(found[name], result, rtol=1e-14, err_msg=str(case))
        settings = Settings.read({name: case[name] for name in names})
        last = len(found["pooled"][0]) - 1
        for name, result in backward(settings, arrays, 0, last).items():
            np.testing.assert_allclose(found[name], result, rtol=1e-13, err_msg=str(case))


def test_presets_are_the_well_known_filters(page: Any) -> None:
    names = {"horizontal edges": "horizontal-edges", "vertical edges": "vertical-edges"}
    names |= {"Laplacian": "laplacian", "Gaussian": "blur"}
    names |= {name: name for name in ("sharpen", "emboss")}
    assert set(names.values()) == set(FILTERS)
    for preset, name in names.items():
        control(page, "Preset").select_option(preset)
        np.testing.assert_array_equal(state(page)["kernel"], FILTERS[name])


def test_random_kernels_can_be_chosen_again(page: Any) -> None:
    control(page, "Kernel size").fill("7")
    kernels = []
    for _ in range(2):
        control(page, "Preset").select_option("random")
        playwright.expect(control(page, "Preset")).to_have_value("custom")
        kernels.append(state(page)["kernel"])
    assert kernels[0] != kernels[1]


@pytest.mark.exhaustive
def test_presets_of_every_size(page: Any) -> None:
    sums = {"identity": 1, "box": 1, "Gaussian": 1, "sharpen": 1, "Laplacian": 0}
    for size in (1, 2, 4, 7):
        control(page, "Kernel size").fill(str(size))
        for preset, total in sums.items():
            control(page, "Preset").select_option(preset)
            kernel = np.asarray(state(page)["kernel"])
            assert kernel.shape == (size, size)
            assert kernel.sum() == pytest.approx(total)
    control(page, "Preset").select_option("random")
    page.get_by_role("button", name="Normalise").click()
    kernel = np.asarray(state(page)["kernel"])
    assert kernel.sum() == pytest.approx(1) or np.abs(kernel).sum() == pytest.approx(1)


def point_at(page: Any, canvas: Any, row: int, column: int, size: tuple[int, int]) -> None:
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x = box["x"] + (column + 0.5) * box["width"] / size[1]
    y = box["y"] + (row + 0.5) * box["height"] / size[0]
    page.mouse.move(x, y)


def stage(page: Any, name: str) -> Any:
    return page.locator(f".kernel-view canvas[aria-label^='{name}']")


def test_pointing_writes_out_the_sum(page: Any) -> None:
    control(page, "Image").select_option("Digit 5")
    found = state(page)
    response = np.asarray(found["response"])
    for row, column in ((0, 0), (3, 4), (7, 7)):
        point_at(page, stage(page, "Response"), row, column, response.shape)
        text = page.locator(".kernel-view output").text_content().replace("\N{MINUS SIGN}", "-")
        place, _, sentence = text.partition(": ")
        assert place == f"Response, row {row + 1}, column {column + 1}"
        products, _, total = sentence.rpartition(" = ")
        factors = [tuple(map(float, part.split("·"))) for part in products.split(" + ")]
        assert len(factors) == 9
        assert sum(a * b for a, b in factors) == float(total) == response[row, column]
        assert page.locator(".kernel-view table").count() == 3


def test_pointing_tells_maximum_and_mean(page: Any) -> None:
    found = state(page)
    pooled, rectified = np.asarray(found["pooled"]), np.asarray(found["rectified"])
    row, column = map(int, np.unravel_index(pooled.argmax(), pooled.shape))
    point_at(page, stage(page, "Pooled"), row, column, pooled.shape)
    sentence = page.locator(".kernel-view output")
    text = sentence.text_content()
    match = re.search(r"max\((.*)\) = (\d+) at row (\d), column (\d)", text)
    assert match is not None
    window = rectified[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    assert [float(value) for value in match[1].split(", ")] == window.ravel().tolist()
    assert rectified[int(match[3]) - 1, int(match[4]) - 1] == float(match[2]) == pooled.max()
    control(page, "Pooling").select_option("average")
    state(page)
    assert f"/ 4 = {window.mean():g}" in sentence.text_content()


def test_arrow_keys_move(page: Any) -> None:
    canvas = stage(page, "Rectified")
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    # The first key chooses the first pixel; at the border, the place stays.
    assert "Rectified, row 1, column 1: max(0, " in page.locator("output").first.text_content()


def test_sweep_moves_until_stopped(page: Any) -> None:
    page.get_by_role("button", name="Sweep").click()
    sentence = page.locator(".kernel-view output")
    playwright.expect(sentence).to_contain_text("row 2, ")
    page.get_by_role("button", name="Stop").click()
    text = sentence.text_content()
    page.wait_for_timeout(300)
    assert sentence.text_content() == text


def test_backward_routes_the_gradient(page: Any) -> None:
    control(page, "Image").select_option("Digit 3")
    found = state(page)
    pooled = np.asarray(found["pooled"])
    page.get_by_role("button", name="Backward").click()
    row, column = map(int, np.unravel_index(pooled.argmax(), pooled.shape))
    point_at(page, stage(page, "Pooled"), row, column, pooled.shape)
    found = state(page)
    grad = np.asarray(found["gradRectified"])
    place = np.argwhere(grad)
    assert place.shape == (1, 2)
    assert found["rectified"][place[0, 0]][place[0, 1]] == pooled.max()
    image = np.asarray(found["image"], float)[None, None]
    kernel = np.asarray(found["kernel"], float)[None, None]
    full, *_ = fastconv.conv2d_backward(grad[None, None], image, kernel, padding=1)
    assert full is not None
    np.testing.assert_array_equal(found["gradImage"], full[0, 0])
    assert "reaches 1 of the rectified pixels" in page.locator("output").first.text_content()


def test_bad_settings_change_nothing_but_the_error(page: Any) -> None:
    before = state(page)
    for name, text, words in (
        ("Stride", "0", "Stride must be a whole number from 1 to 16"),
        ("Kernel size", "8", "Kernel size must be a whole number from 1 to 7"),
        ("Padding", "", "Padding must be"),
        ("Kernel row 2 column 2", "x", "Kernel row 2 column 2 must be a number"),
        ("Dilation", "16", "does not fit"),
        ("Pool size", "16", "16"),
    ):
        field = control(page, name)
        old = field.input_value()
        field.fill(text)
        after = state(page)
        assert words in page.get_by_role("alert").text_content()
        assert after["error"]
        assert after | {"error": ""} == before
        field.fill(old)
        assert state(page) == before
        assert page.get_by_role("alert").text_content() == ""


def test_leaving_a_refused_control_shows_what_counts(page: Any) -> None:
    for name, text in (("Stride", ""), ("Kernel row 1 column 2", "x"), ("Channel", "99")):
        if name == "Channel":
            control(page, "View").select_option("network")
        before = state(page)
        field = control(page, name)
        old = field.input_value()
        field.fill(text)
        playwright.expect(page.get_by_role("alert")).to_contain_text(name)
        assert field.get_attribute("aria-invalid") == "true"
        field.blur()
        assert state(page) == before
        assert field.input_value() == old
        assert field.get_attribute("aria-invalid") is None


def test_errors_are_seen_beside_the_control(open_page: Callable[..., Any], url: str) -> None:
    page = open_page(url, viewport={"width": 360, "height": 740})
    control(page, "Pool size").fill("16")
    state(page)
    alert = page.get_by_role("alert")
    assert alert.text_content() == "a pool of size 16 does not fit an input of (8, 8)"
    playwright.expect(alert).to_be_in_viewport(ratio=1)
    playwright.expect(control(page, "Pool size")).to_be_in_viewport()


def test_formulas_tell_both_sides(page: Any) -> None:
    pixels = np.zeros((9, 12), np.uint8)
    file = {"name": "wide.png", "mimeType": "image/png", "buffer": png(pixels)}
    page.locator("input[type=file]").set_input_files(file)
    wait_for_picture(page, "wide.png")
    texts = page.locator(".kernel-view .formula").all_text_contents()
    assert texts[1].endswith(
        " = 9, \u230a(12 + 2·1 \N{MINUS SIGN} 1·(3\N{MINUS SIGN}1)"
        " \N{MINUS SIGN} 1) / 1\u230b + 1 = 12"
    )
    assert texts[3].endswith(" = 4, \u230a(12 \N{MINUS SIGN} 2) / 2\u230b + 1 = 6")


# ---- pictures ----------------------------------------------------------------------------------


def png(pixels: Array) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    file = io.BytesIO()
    image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def wait_for_picture(page: Any, name: str) -> dict[str, Any]:
    playwright.expect(control(page, "Image")).to_have_value(name)
    return state(page)


def test_files_are_read(page: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    file = {"name": "mine.png", "mimeType": "image/png", "buffer": png(pixels)}
    page.locator("input[type=file]").set_input_files(file)
    found = wait_for_picture(page, "mine.png")
    gray = np.rint(pixels @ [0.299, 0.587, 0.114])
    assert np.abs(np.asarray(found["image"]) - gray).max() == 0
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"nonsense"}
    page.locator("input[type=file]").set_input_files(broken)
    playwright.expect(page.get_by_role("alert")).to_contain_text("broken.png is not an image")
    assert state(page)["image"] == found["image"]


@pytest.mark.exhaustive
def test_cameras_give_pictures(page: Any) -> None:
    page.get_by_role("button", name="Camera").click()
    # Chromium takes seconds to start its camera.
    playwright.expect(control(page, "Image")).to_have_value("Camera", timeout=20_000)
    image = np.asarray(state(page)["image"])
    assert min(image.shape) > 100
    assert np.unique(image).size > 1


def test_what_is_transparent_is_paper(page: Any) -> None:
    pixels = np.zeros((6, 8, 4), np.uint8)
    pixels[2:4, 3:6, 3] = 255
    file = {"name": "ink.png", "mimeType": "image/png", "buffer": png(pixels)}
    page.locator("input[type=file]").set_input_files(file)
    found = wait_for_picture(page, "ink.png")
    np.testing.assert_array_equal(found["image"], 255 - pixels[..., 3].astype(int))


def test_files_are_dropped(page: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6), np.uint8)
    encoded = base64.b64encode(png(pixels)).decode()
    page.evaluate(
        """(encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            const target = document.querySelector(".fastconv");
            target.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
        }""",
        encoded,
    )
    np.testing.assert_array_equal(wait_for_picture(page, "dropped.png")["image"], pixels)


def test_drawings_are_pictures(page: Any) -> None:
    page.get_by_role("button", name="Draw").click()
    pad = page.locator("canvas.pad")
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.25 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.75 * box["height"], steps=20)
    page.mouse.up()
    image = np.asarray(wait_for_picture(page, "Drawing")["image"])
    assert image.shape == (28, 28)
    assert image[8:20, 13:15].min() == 255
    assert image[:, :8].max() == 0
    page.get_by_role("button", name="Clear").click()
    assert np.asarray(state(page)["image"]).max() == 0


# ---- the network view --------------------------------------------------------------------------


def open_network(page: Any, layer: str, channel: int, picture: str = "Digit 3") -> dict[str, Any]:
    control(page, "View").select_option("network")
    control(page, "Image").select_option(picture)
    control(page, "Layer").select_option(layer)
    control(page, "Channel").fill(str(channel))
    found: dict[str, Any] = state(page)["network"]
    return found


@pytest.mark.parametrize("kind", ["served", "saved"])
def test_network_view(
    open_page: Callable[..., Any], url: str, saved: str, network: SequentialView, kind: str
) -> None:
    page = open_page(url if kind == "served" else saved)
    found = open_network(page, "Conv2", 5)
    image = resampled(digits()[3].pixels / 16, (16, 16))[None].astype(np.float32)
    outputs = network.network.activations(image)
    np.testing.assert_allclose(found["scores"], outputs["Affine1"][0], rtol=1e-4, atol=1e-4)
    assert (found["layer"], found["channel"]) == ("Conv2", 5)
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(found["map"]["data"], outputs["Conv2"][0, 5].ravel(), **close)
    weights = network.network.params["W2"][5]
    assert found["filter"]["shape"] == list(weights.shape)
    np.testing.assert_allclose(found["filter"]["data"], weights.ravel(), rtol=1e-6)
    np.testing.assert_allclose(
        found["filterBefore"]["data"], network.before["W2"][5].ravel(), rtol=1e-6
    )
    _, values = network.exciting("Conv2")
    np.testing.assert_allclose(found["exciting"], values[:, 5], rtol=1e-5)
    heat = network.heat(image)
    assert heat.max() > 0
    np.testing.assert_allclose(found["heat"]["data"], heat.ravel(), rtol=1e-3, atol=1e-3)
    ascent, activations, _ = network.ascent("Conv2", 5)
    np.testing.assert_allclose(found["maximum"]["data"], ascent.ravel(), **close)
    np.testing.assert_allclose(found["maximum"]["activations"][1], activations[-1], rtol=1e-4)


def test_pointing_at_a_map_shows_what_it_sees(page: Any, network: SequentialView) -> None:
    open_network(page, "Conv3", 3)
    point_at(page, page.locator(".chosen canvas").first, 4, 1, (8, 8))
    found = state(page)["network"]
    size, stride, offset = network.network.receptive_field("Conv3")
    assert found["pointed"] == {"row": 4, "column": 1}
    top, left = offset[0] + 4 * stride[0], max(offset[1] + stride[1], 0)
    assert (found["field"]["top"], found["field"]["left"]) == (top, left)
    assert found["field"]["height"] == size[0]
    sees = f"depends on {size[0]} \N{MULTIPLICATION SIGN} {size[1]} pixels"
    assert sees in page.locator(".chosen output").text_content()


def test_opacity_covers_the_picture(page: Any) -> None:
    open_network(page, "Relu1", 0)
    picture = page.locator(".chosen canvas").nth(1)

    def pixels() -> Array:
        return np.array(
            picture.evaluate(
                """(canvas) => {
                    const { width, height } = canvas;
                    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                    return Array.from(data).filter((_, i) => i % 101 === 0);
                }"""
            )
        )

    def difference(a: Array, b: Array) -> float:
        # Chromium draws with other rounding once a canvas has been read a few times.
        return float(np.abs(a - b).mean())

    control(page, "Opacity").fill("0")
    bare = pixels()
    control(page, "Opacity").fill("1")
    assert difference(pixels(), bare) > 5
    control(page, "Shows").select_option("class activation map")
    covered = pixels()
    control(page, "Opacity").fill("0")
    assert difference(pixels(), bare) < 1
    assert difference(covered, bare) > 5


def test_layers_are_scrolled_to(open_page: Callable[..., Any], url: str) -> None:
    page = open_page(url, viewport={"width": 360, "height": 740})
    open_network(page, "Affine1", 0)
    last = page.get_by_role("button", name="Affine1, channel 0", exact=True)
    box, strip = last.bounding_box(), page.locator(".strip").bounding_box()
    assert strip["x"] <= box["x"] <= strip["x"] + strip["width"]


def test_what_is_below_zero_covers_nothing(page: Any) -> None:
    """A map without any positive value is shown on a scale that ends at 1e-9."""
    clear = page.evaluate(
        """async () => {
            const { SCALES, imageOf } = await import(location.href + "drawing.js");
            const plane = { height: 1, width: 3, data: Float32Array.of(-0.012, -0.03, -3) };
            const look = { low: 0, high: 1e-9, scale: SCALES.heat };
            const canvas = imageOf(plane, look, (share) => 255 * share);
            return Array.from(canvas.getContext("2d").getImageData(0, 0, 3, 1).data);
        }"""
    )
    assert clear[3::4] == [0, 0, 0]


def test_maps_are_chosen_by_clicking(page: Any) -> None:
    control(page, "View").select_option("network")
    page.get_by_role("button", name="Pool1, channel 6", exact=True).click()
    playwright.expect(control(page, "Layer")).to_have_value("Pool1")
    playwright.expect(control(page, "Channel")).to_have_value("6")
    found = state(page)["network"]
    assert (found["layer"], found["channel"]) == ("Pool1", 6)
    assert found["filter"] is None


# ---- looks -------------------------------------------------------------------------------------

RATIOS = """() => {
    const luminance = (color) => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d");
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((x) => {
            const part = x / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (!/, 0\\)$|transparent/.test(color)) return color;
        }
    };
    const found = {};
    for (const element of document.querySelectorAll(".fastconv *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!element.checkVisibility() || !(own || element.matches("input, select"))) continue;
        const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const name = `${element.tagName}.${element.className} ${element.textContent.slice(0, 20)}`;
        if (!(ratio >= 4.5)) found[name] = ratio;
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(open_page: Callable[..., Any], url: str, scheme: str) -> None:
    page = open_page(url, color_scheme=scheme)
    page.mouse.move(640, 250)
    for view in ("kernel", "network"):
        control(page, "View").select_option(view)
        state(page)
        assert page.evaluate(RATIOS) == {}


@pytest.mark.parametrize(
    "width", [360, *(pytest.param(wide, marks=pytest.mark.exhaustive) for wide in (720, 1280))]
)
def test_nothing_overflows(open_page: Callable[..., Any], url: str, width: int) -> None:
    """Also with labels of the length of German words."""
    page = open_page(url, viewport={"width": width, "height": 800})
    for view in ("kernel", "network"):
        control(page, "View").select_option(view)
        state(page)
        page.evaluate(
            """() => {
                for (const e of document.querySelectorAll("label, legend, h2, strong, button")) {
                    if (!e.children.length && e.checkVisibility()) {
                        e.textContent += " Aktivierungsfunktionseinstellung";
                    }
                }
            }"""
        )
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        page.reload()
        page.evaluate(LOADED)


# ---- notebooks ---------------------------------------------------------------------------------


def test_widget_in_a_browser(browser: Any) -> None:
    """The widget's module, with the library behind the messages of a notebook's model."""
    application = Application(digits()[:2])
    page = browser.new_page()
    page.set_default_timeout(10_000)

    def answer(question: str, encoded: str) -> dict[str, str]:
        try:
            if question == "start":
                message = start
            else:
                message = application.answer(question, base64.b64decode(encoded))
            return {"message": base64.b64encode(message).decode()}
        except Refusal as error:
            return {"error": str(error)}

    from fastconv.explore._protocol import packed

    settings = {"pictures": [{"name": "image", "high": 2}]}
    pixels = np.array([[[0.0, 1, 2], [2, 1, 0], [0, 0, 2]]])
    start = packed(settings, {"picture0": pixels, "kernel": np.array([[1.0, 0, -1]])})
    page.expose_function("answer", answer)
    page.set_content("<div id='cell'></div>")
    page.evaluate(
        """async (source) => {
            const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            const widget = (await import(url)).default;
            const bytesOf = (text) => Uint8Array.from(atob(text), (x) => x.charCodeAt(0));
            let listener;
            const model = {
                on: (name, function_) => (listener = function_),
                send: async ({ id, question }, callbacks, [buffer]) => {
                    const text = String.fromCharCode(...new Uint8Array(buffer));
                    const { message, error } = await window.answer(question, btoa(text));
                    const buffers = message ? [new DataView(bytesOf(message).buffer)] : [];
                    listener(error ? { id, error } : { id }, buffers);
                },
            };
            const el = document.getElementById("cell");
            await widget.render({ model, el });
            window.fastconv = el.firstChild.explore;
        }""",
        bundled("widget.js"),
    )
    found = state(page)
    assert found["image"] == pixels[0].tolist()
    assert found["kernel"] == [[1, 0, -1]]
    control(page, "Padding").fill("2")
    found = state(page)
    response = fastconv.conv2d(pixels[None], np.array([[[[1.0, 0, -1]]]]), padding=2)
    np.testing.assert_array_equal(found["response"], response[0, 0])
    control(page, "Pool size").fill("16")
    assert "fit" in state(page)["error"]
    control(page, "Pool size").fill("1")
    control(page, "Kernel size").fill("5")
    assert state(page)["kernel"] == [[0] * 5, [0] * 5, [0, 1, 0, -1, 0], [0] * 5, [0] * 5]
    page.close()


@pytest.mark.exhaustive
def test_saved_page_through_the_command(tmp_path: Path, command: Any) -> None:
    result = command("explore", "--save", tmp_path / "page.html")
    assert result.code == 0, result.err
    assert "works in any browser" in result.out
    again = command("explore", "--save", tmp_path / "again.html")
    assert again.code == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()
