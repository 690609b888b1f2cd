"""The files of the page, and the page as one file.

The modules of `page/` are plain JavaScript that a browser loads one by one. Where there is no
server, they become one module: their texts in the order in which they need each other, without the
lines that import and export. So no two modules may have a top-level name in common.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from importlib import resources

__all__ = ["CONTENT_TYPES", "bundled", "page_file", "page_files", "single_page"]

CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(?P<name>\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


@cache
def page_files() -> dict[str, str]:
    """Return the texts of the files by their names, which are the only ones that are served."""
    folder = resources.files("fastconv").joinpath("explore", "page")
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in CONTENT_TYPES
    }


def page_file(name: str) -> str:
    """Return the text of one of the files."""
    return page_files()[name]


def bundled(entry: str) -> str:
    """Join a module and all that it imports, directly or not, to one module."""
    order: list[str] = []

    def visit(name: str) -> None:
        for match in IMPORT.finditer(page_file(name)):
            needed = f"{match['name']}.js"
            if needed not in order:
                visit(needed)
        order.append(name)

    visit(entry)
    texts = (EXPORT.sub("", IMPORT.sub("", page_file(name))) for name in order)
    return "\n".join(texts)


def single_page(title: str, data: bytes) -> str:
    """Make a page that needs no server and no other file.

    Parameters
    ----------
    title : str
        What the browser shows as the name of the page.
    data : bytes
        The message that the module ``saved.js`` reads pictures and networks from.
    """
    script = bundled("saved.js").replace("</script", r"<\/script")
    style = page_file("style.css")
    # Hashes let a browser run this script and apply this style, and nothing that is added to them.
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data: blob:; media-src blob: mediastream:; base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        '<div id="page"></div>\n'
        f'<script type="application/octet-stream" id="data">{base64.b64encode(data).decode()}'
        "</script>\n"
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
