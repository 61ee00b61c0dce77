#!/usr/bin/env bash
# Runs every test: format, lints, unit tests, and the one test binary.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v tsql >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "install freetds-bin (as root: apt-get install freetds-bin): a test uses it as a foreign client" >&2; exit 1; }
  apt-get update -qq && apt-get install -y -qq freetds-bin >/dev/null
fi
cargo fmt --check
cargo clippy --all-targets -- -D warnings
cargo test
