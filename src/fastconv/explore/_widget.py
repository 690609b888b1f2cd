"""The page as a widget of notebooks; needs anywidget."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, read
from fastconv._errors import argument_error, named
from fastconv.explore._application import Application
from fastconv.explore._catalog import Picture
from fastconv.explore._kernel import MOST_KERNEL
from fastconv.explore._page import bundled, page_file
from fastconv.explore._protocol import MOST_SIDE, Refusal, packed

__all__ = ["explore"]

BYTES = 255


@named
def explore(image: npt.ArrayLike, kernel: npt.ArrayLike) -> Any:
    """Show in a notebook how a kernel responds to an image, to be touched.

    The kernel's cells, stride, dilation, padding, ReLU and pooling can be changed, and every pixel
    shows the window and the sum that it came from. It is the kernel view of ``fastconv explore``.

    Parameters
    ----------
    image : array_like, shape (H, W), (1, H, W) or (3, H, W)
        Numbers; black is 0 or the smallest. Colours are shown by their brightness.
    kernel : array_like, shape (KH, KW)
        At most 7 rows and columns.

    Returns
    -------
    anywidget.AnyWidget
        A widget, which a notebook shows.

    Raises
    ------
    ImportError
        If anywidget is not installed.
    TypeError
        If an argument is no array of numbers.
    ValueError
        If one of them is of another shape, or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> viz.explore(np.eye(8), [[0, 1, 0], [1, -4, 1], [0, 1, 0]])  # doctest: +SKIP
    """
    pixels, weights = _checked("image", image), _checked("kernel", kernel)
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or max(pixels.shape) > MOST_SIDE:
        raise argument_error(
            ValueError,
            f"image must have shape (H, W), (1, H, W) or (3, H, W) and at most {MOST_SIDE} rows "
            f"and columns, got {np.shape(image)}",
        )
    if weights.ndim != 2 or max(weights.shape) > MOST_KERNEL:
        raise argument_error(
            ValueError,
            f"kernel must have at most {MOST_KERNEL} rows and columns, got {weights.shape}",
        )
    return _widget(pixels, weights)


def _checked(name: str, value: npt.ArrayLike) -> Array:
    array = read(value, name, NUMBERS)
    if not array.size or not np.isfinite(array).all():
        raise argument_error(ValueError, f"{name} must be finite and not empty")
    return array.astype(np.float64)


def _widget(pixels: Array, weights: Array) -> Any:
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise ImportError("explore needs anywidget: pip install 'fastconv[widget]'") from None

    application = Application([Picture("image", pixels, high=float(pixels.max()) or 1.0)])
    start = {"picture0": pixels, "kernel": weights}
    settings = {"pictures": [{"name": "image", "high": application.pictures[0].high}]}

    def answer(widget: Any, content: Any, buffers: list[bytes]) -> None:
        reply: dict[str, Any] = {"id": content.get("id")}
        try:
            if content.get("question") == "start":
                message = packed(settings, start)
            else:
                message = application.answer(content.get("question"), bytes(buffers[0]))
            widget.send(reply, [message])
        except Refusal as error:
            widget.send(reply | {"error": str(error), "status": error.status})

    class Explore(anywidget.AnyWidget):  # type: ignore[misc,unused-ignore]
        _esm = traitlets.Unicode(bundled("widget.js")).tag(sync=True)
        _css = traitlets.Unicode(page_file("style.css")).tag(sync=True)

    widget = Explore()
    widget.on_msg(answer)
    return widget
