"""Take the picture of the page for the documentation: ``python scripts/explore_picture.py``.

It needs Playwright and a Chromium: ``pip install playwright``, ``apt-get install chromium``.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import threading
from pathlib import Path

from fastconv.explore._application import Application
from fastconv.explore._catalog import digits
from fastconv.explore._server import Server

TARGET = Path(__file__).parents[1] / "docs" / "explore.png"
SIZE = {"width": 1280, "height": 640}


def main() -> int:
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    api = importlib.import_module("playwright.sync_api")
    with Server(Application(digits())) as server, api.sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(server.url)
        page.get_by_label("Image", exact=True).select_option("Digit 3")
        response = page.locator(".kernel-view .stage canvas").nth(1)
        box = response.bounding_box()
        page.mouse.move(box["x"] + 0.44 * box["width"], box["y"] + 0.44 * box["height"])
        page.wait_for_timeout(300)
        page.screenshot(path=TARGET)
        browser.close()
        server.shutdown()
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
