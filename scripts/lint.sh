#!/usr/bin/env bash
# Check style and types: run the hooks of .pre-commit-config.yaml in the active environment.
set -euo pipefail
cd "$(dirname "$0")/.."

pre-commit run --all-files --color never "$@"
