#!/usr/bin/env bash
# Moves the nodes to another image, one version at a time: all nodes drain and end, then one starts
# and changes the database, then the others. Nothing is lost if it is broken off: call it again.
#
#   ./upgrade.sh IMAGE        such as octopusdeploy/octopusdeploy:2026.3.1
#
# Back up the database first: an older version cannot open what a newer one has changed.
set -euo pipefail
image=${1:?the new image, such as octopusdeploy/octopusdeploy:2026.3.1}
nodes=${NODES:-@NODES@}
k() { kubectl --namespace '@NAMESPACE@' "$@"; }
set=statefulset/@SET@
pods=(-l '@SELECTOR@')

partition=$(k get "$set" -o 'jsonpath={.spec.updateStrategy.rollingUpdate.partition}')
if [ "${partition:-0}" -lt "$nodes" ]; then
  echo "the StatefulSet would replace nodes one by one and mix versions: apply this export first" >&2
  exit 1
fi

echo "1/5 no node is wished"
k scale "$set" --replicas=0
generation=$(k get "$set" -o 'jsonpath={.metadata.generation}')
k wait "$set" --for="jsonpath={.status.observedGeneration}=$generation" --timeout=120s

# All at once: their drains run beside each other, and a node that is not ready holds up no other.
echo "2/5 the nodes drain and end, for up to @GRACE@ s"
k delete pod "${pods[@]}" --ignore-not-found --wait=false
k wait pod "${pods[@]}" --for=delete --timeout="$((@GRACE@ + 120))s" 2>/dev/null || true
if [ -n "$(k get pod "${pods[@]}" -o name)" ]; then
  echo "there are still nodes; look at them, then call this again" >&2
  exit 1
fi

echo "3/5 the new image"
k set image "$set" "octopus=$image"

echo "4/5 one node starts and changes the database, for up to @START@ s"
k scale "$set" --replicas=1
@if hardened@
"$(dirname "$0")/undrain.sh" @SET@-0
@end@
k wait "$set" --for='jsonpath={.status.readyReplicas}=1' --timeout=@START@s

echo "5/5 the other nodes"
k scale "$set" --replicas="$nodes"
@if hardened@
for ((node = 1; node < nodes; node++)); do "$(dirname "$0")/undrain.sh" "@SET@-$node"; done
@end@
k wait "$set" --for="jsonpath={.status.readyReplicas}=$nodes" --timeout="$((nodes * @START@))s"
echo "done: set OCTOPUS_SERVER_TAG to the new version and export again, so that the files say the same"
