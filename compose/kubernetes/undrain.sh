#!/usr/bin/env bash
# Lets a node serve again that was drained before it ended. The hardened image has no shell, so the
# node cannot do that for itself: call this for each node whose pod was replaced and is not ready.
#
#   ./undrain.sh @SET@-0
set -euo pipefail
node=${1:?the name of a pod, such as @SET@-0}
k() { kubectl --namespace '@NAMESPACE@' "$@"; }
for ((tries = 0; tries < @START@ / 5; tries++)); do
  if k exec "$node" -- /Octopus/Octopus.Server node --instance=OctopusServer --drain=false; then
    exit 0
  fi
  sleep 5
done
echo "$node does not answer" >&2
exit 1
