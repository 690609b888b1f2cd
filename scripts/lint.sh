#!/usr/bin/env bash
# Check style and types by the hooks of .pre-commit-config.yaml, with the active environment's tools.
set -euo pipefail
cd "$(dirname "$0")/.."

pre-commit run --all-files --color never "$@"
