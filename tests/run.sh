#!/usr/bin/env bash
# Runs every test: format, lints, unit tests, and the one test binary.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/engine.sh

need_rust
need_engine
# tsql is a foreign client of the SQL stand-in, and a browser one of the front door; the others make the tests' private engine, whatever kind the machine's own is.
need_tools tsql=freetds-bin chromium=chromium chromedriver=chromium-driver dockerd=docker.io ip=iproute2 nsenter=util-linux setpriv=util-linux umount=mount fuse-overlayfs=fuse-overlayfs
# Kubernetes' own strict schemas hold what is exported for it; without them that test says so.
if ! [ -x target/schemas/bin/kubernetes-validate ]; then
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3 python3-venv
  python3 -m venv target/schemas && target/schemas/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 ||
    echo "kubernetes-validate could not be installed: strict schemas are not tried" >&2
fi
cargo fmt --check
cargo clippy --locked --all-targets -- -D warnings
cargo test --locked
