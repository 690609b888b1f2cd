"""What the gallery needs besides pyplot's figures."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

shown: WeakSet[Figure] = WeakSet()


def scrape(block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Take the figure that is the value of a block, as a notebook shows it.

    The functions of `fastconv.viz` return figures that pyplot does not know.
    """
    figure = variables["example_globals"].get("___")
    if not isinstance(figure, Figure) or figure in shown:
        return ""
    shown.add(figure)
    path = variables["image_path_iterator"].next()
    figure.savefig(path)
    return str(figure_rst([path], settings["src_dir"]))
