#!/usr/bin/env bash
# Check style and types, with the ruff and mypy of the active environment.
set -euo pipefail
cd "$(dirname "$0")/.."

ruff check .
ruff format --check .
mypy --strict
mypy --strict tests bench scripts
