"""The documentation: code that must run as it stands, and links that must lead somewhere.

A page's Python blocks run in order in one namespace, each as a test of its own. A block that needs
another library says so behind the word ``python``, where a reader of the page does not see it:
```` ```python needs=torch ````.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.onnx._operators import markdown

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "coming-from").glob("*.md"))
if PAGES:
    names = ["data", "inference", "low-rank", "networks", "one-dimension", "onnx", "viz"]
    names.append("run-pytorch-with-numpy")
    PAGES += [ROOT / "docs" / f"{name}.md" for name in names]
else:
    pytest.skip("docs/ is in no wheel: python -m pytest, in a checkout", allow_module_level=True)

BLOCK = re.compile(r"^```python(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    page: Path
    index: int
    line: int
    code: str
    needs: tuple[str, ...]


@cache
def blocks(page: Path) -> list[Block]:
    """Find the Python code of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            index,
            text.count("\n", 0, match.start("code")),
            match["code"],
            tuple(re.findall(r"needs=(\w+)", match["info"])),
        )
        for index, match in enumerate(BLOCK.finditer(text))
    ]


@cache
def namespace(page: Path) -> dict[str, Any]:
    """Return what the blocks of a page share, and make the numbers that they draw repeatable."""
    np.random.seed(0)  # noqa: NPY002
    return {"__name__": page.stem}


@cache
def outcome(block: Block) -> Exception | None:
    """Run a block once, after those before it, and return what it raises."""
    if block.index:
        outcome(blocks(block.page)[block.index - 1])  # its own test says how that went
    if missing(block):
        return None
    code = compile("\n" * block.line + block.code, str(block.page), "exec")  # lines as on the page
    try:
        exec(code, namespace(block.page))
    except Exception as error:
        return error
    return None


def missing(block: Block) -> list[str]:
    return [name for name in block.needs if find_spec(name) is None]


def _name(block: Block) -> str:
    return f"{block.page.stem}-line-{block.line + 1}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the pages write their files where they do not stay, beside those that they read."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("docs"))
    write_files()
    yield
    os.chdir(before)


def write_files() -> None:
    """Write the files that pages read, small: an archive of CIFAR-10, and a folder of images."""
    one = bytes([7]) + bytes(range(256)) * 12
    files = dict.fromkeys([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], one)
    files["batches.meta.txt"] = "\n".join("abcdefghij").encode()
    with tarfile.open("cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    for name in ("photos/cat/1.ppm", "photos/dog/1.ppm"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_bytes(b"P6 2 1 255 " + bytes(range(6)))


# PyTorch's exporter uses what PyTorch has announced to take away.
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page)], ids=_name)
def test_code_runs_as_it_stands(block: Block) -> None:
    if missing(block):
        pytest.skip(f"{', '.join(missing(block))} not installed, so its results are not compared")
    error = outcome(block)
    if error is not None:
        raise error


def test_table_of_onnx_operators_is_up_to_date() -> None:
    text = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    assert f"<!-- operators -->\n\n{markdown()}\n\n<!-- end of operators -->" in text, (
        "python scripts/onnx_table.py writes it"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_code_is_found(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(blocks(page)) == text.count("```python") > 0
    known = sum(text.count(f"```{kind}") for kind in ("python", "sh", "diff"))
    assert text.count("```") == 2 * known  # there is no code of another kind


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_links_lead_to_files(page: Path) -> None:
    paths = {match["path"] for match in LINK.finditer(page.read_text(encoding="utf-8"))}
    assert [path for path in sorted(paths) if not (page.parent / path).exists()] == []
