#!/usr/bin/env bash
# Install the wheel from dist/ into a fresh environment, and run the demo and the tests there.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
echo "make wheel: testing with $("$work/venv/bin/python" --version)"
"$work/venv/bin/pip" install --quiet "$(echo dist/fastconv-*_"$(uname -m)".whl)" pytest hypothesis scipy
cp -R tests pyproject.toml "$work/" # pyproject.toml contains the settings of pytest.
cd "$work"
venv/bin/python -c '
import os, sys, fastconv
fastconv.show_config()
assert os.path.dirname(fastconv.__file__).startswith(sys.prefix), fastconv.__file__
loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
assert [os.path.basename(path) for path in loaded] == ["libgomp.so.1"], loaded
assert all(path.startswith(sys.prefix) for path in loaded), loaded
'
venv/bin/fastconv demo
venv/bin/python -m pytest -q
