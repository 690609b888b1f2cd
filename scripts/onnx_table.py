"""Write the table of ONNX operators into its page, docs/onnx.md."""

from __future__ import annotations

import re
from pathlib import Path

from fastconv.onnx._operators import markdown

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"
PART = re.compile(r"(?<=<!-- operators -->\n\n).*?(?=\n\n<!-- end of operators -->)", re.DOTALL)


def main() -> None:
    """Replace the part of the page between the two comments."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(PART.sub(lambda _: markdown(), text), encoding="utf-8")


if __name__ == "__main__":
    main()
