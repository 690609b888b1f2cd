"""Settings of Sphinx, which makes the web site: `make docs`, result in build/docs/index.html."""

from __future__ import annotations

import csv
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import fastconv

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # for figure_scraper

project = "fastconv"
author = "The fastconv developers"
project_copyright = author
release = version = fastconv.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "sg_execution_times.rst",
    "gallery/sg_execution_times.rst",
    "gallery/*.py",
    "gallery/*.ipynb",
    "gallery/*.zip",
]
templates_path = ["_templates"]

# The Markdown pages are read on GitHub, too, whose links to headings look like these.
myst_heading_anchors = 3
# ```python needs=torch: the words behind the language are for the tests.
suppress_warnings = ["myst.header", "config.cache"]

autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
numpydoc_show_inherited_class_members = False
autodoc_typehints = "none"

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Links to the documentation of NumPy and others need the network while building.
intersphinx_mapping = {
    "numpy": ("https://numpy.org/doc/stable/", None),
    "python": ("https://docs.python.org/3/", None),
    "scipy": ("https://docs.scipy.org/doc/scipy/", None),
}
if os.environ.get("FASTCONV_DOCS_OFFLINE") == "1":
    intersphinx_mapping = {}

sphinx_gallery_conf = {
    "image_scrapers": ("matplotlib", "figure_scraper.scrape"),
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 10,
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),
    "doc_module": ("fastconv",),
    "backreferences_dir": None,
    "remove_config_comments": True,
}
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def write_measurements(folder: Path) -> None:
    """Write the table of all measurements: a row for each call, a column for each library."""
    with open(folder / "performance.csv", newline="", encoding="utf-8") as file:
        times = [row for row in csv.DictReader(file) if row["kind"] == "time"]
    libraries = list(dict.fromkeys(row["contender"] for row in times if row["times_ours"]))
    calls: dict[tuple[str, ...], dict[str, str]] = {}
    for row in times:
        call = (row["operation"], row["workload"], row["mode"], row["threads"])
        figure = f"{row['value']}" if row["contender"] == "fastconv" else row["times_ours"]
        calls.setdefault(call, {})[row["contender"]] = figure
    with open(folder / "measurements.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["operation", "workload", "mode", "threads", "ms", *libraries])
        for call, found in calls.items():
            table.writerow([*call, found.get("fastconv"), *map(found.get, libraries)])


write_measurements(FOLDER)

html_theme = "pydata_sphinx_theme"
html_title = f"fastconv {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["sortable.js"]
html_show_sourcelink = False
html_extra_path = ["performance.csv"]
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}


def escape_stars(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Escape the star of shapes, as in (N, *input_dim), which would begin emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[i] = re.sub(r"(?<=[(, ])\*(?=\w+[),])", r"\\*", line)


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx; numpydoc reads docstrings afterwards."""
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
