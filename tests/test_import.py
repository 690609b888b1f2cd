"""What an import needs, and what it tells."""

from __future__ import annotations

from importlib import metadata

from helpers import run_python

import fastconv


def test_import_without_metadata() -> None:
    """Vendored copies and frozen programs have no package metadata; the version is known."""
    result = run_python(
        "import sys\n"
        "sys.modules['importlib.metadata'] = None\n"
        "import fastconv\n"
        "print(fastconv.__version__)"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == metadata.version("fastconv") == fastconv.__version__
