#!/usr/bin/env bash
# Builds octo-local and brings the demo stack up: SQL Server and two nodes, all stand-ins. Run again, it changes nothing.
# octo-local's variables count: OCTOPUS_PORT=9080 bash tests/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/engine.sh

need_rust
need_tools
need_engine
# Debug: it is there much sooner than the release, and the tests use what was compiled for it.
cargo build --locked
octo_local="${CARGO_TARGET_DIR:-$PWD/target}/$(rustc -vV | sed -n 's/^host: //p')/debug/octo-local"
# A name of its own, not the directory's: the demo of a checkout must not become some real stack's neighbour.
project=${COMPOSE_PROJECT_NAME:-octo-demo}
"$octo_local" -p "$project" up --demo --nodes 2
cat <<END

  look at it      $octo_local -p $project status
  what it did     $octo_local -p $project events
  take it away    $octo_local -p $project down --volumes --yes
END
