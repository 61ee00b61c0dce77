#!/usr/bin/env bash
# Runs every test: format, lints, unit tests, and the one test binary.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --check
cargo test
