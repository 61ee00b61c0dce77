#!/usr/bin/env bash
# Sourced by demo.sh and run.sh: what they need of the machine. What is missing comes from Debian's packages; without root they
# say what to install and end with 69, the code that octo-local itself gives when it cannot reach the engine.
#   need_rust                    ends unless cargo can be called
#   need_tools PROGRAM=PACKAGE…  returns when the programs are there
#   need_engine                  returns when a Docker Engine answers

readonly UNAVAILABLE=69
# How long another apt-get may hold its locks, in seconds: unattended upgrades take minutes.
readonly LOCK_LIMIT=${LOCK_LIMIT:-600}
# How long an engine that was started may take until it answers, in seconds.
readonly ENGINE_LIMIT=${ENGINE_LIMIT:-60}
# Where an engine that neither systemd nor the init script starts writes its log.
readonly ENGINE_LOG=${ENGINE_LOG:-/var/log/dockerd.log}

need_rust() {
  PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
  has cargo || give_up "there is no cargo: install Rust 1.95 or newer"
}

need_tools() {
  local tool packages=()
  for tool; do has "${tool%%=*}" || packages+=("${tool##*=}"); done
  # The binary is static, so a compiler alone does not do.
  [ -e "$(cc -print-file-name=libc.a 2>/dev/null)" ] || packages+=(gcc libc6-dev)
  [ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
}

need_engine() {
  has docker || has curl || need_tools curl=curl
  engine_answers && return
  # Another engine would not be asked, so there is no sense in making one.
  [ -z "${DOCKER_HOST:-}" ] || give_up "no engine answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
  [ -z "${DOCKER_CONTEXT:-}" ] || give_up "no engine answers in DOCKER_CONTEXT=$DOCKER_CONTEXT: start it, or unset it"
  is_root || give_up "no Docker Engine answers you: as root, install docker.io and start it, and join the group docker"
  has dockerd || install_packages docker.io curl
  start_engine
}

start_engine() {
  case $(systemctl is-system-running 2>/dev/null) in
    '' | offline | unknown) ;;
    *) systemctl start docker && wait_for_engine && return ;;
  esac
  has service && service docker start >/dev/null 2>&1 && wait_for_engine && return
  echo "starting dockerd; its log is $ENGINE_LOG" >&2
  setsid dockerd >>"$ENGINE_LOG" 2>&1 </dev/null &
  wait_for_engine && return
  tail -n 20 "$ENGINE_LOG" >&2
  give_up "the Docker Engine was started and does not answer"
}

wait_for_engine() {
  local give_up_at=$((SECONDS + ENGINE_LIMIT))
  until engine_answers; do
    [ "$SECONDS" -lt "$give_up_at" ] || return 1
    sleep 0.2
  done
}

# As octo-local looks for it. The docker command may be missing though an engine answers, and only it knows contexts.
engine_answers() {
  if has docker && timeout 20 docker version >/dev/null 2>&1; then return; fi
  local dir
  case ${DOCKER_HOST:-} in
    tcp://*) ping_engine "http://${DOCKER_HOST#tcp://}" ;;
    unix://*) ping_engine http://engine --unix-socket "${DOCKER_HOST#unix://}" ;;
    ?*) return 1 ;;
    *)
      for dir in /var/run ${XDG_RUNTIME_DIR:+"$XDG_RUNTIME_DIR"} "${HOME:-/root}/.docker/run"; do
        ping_engine http://engine --unix-socket "$dir/docker.sock" && return
      done
      return 1
      ;;
  esac
}

ping_engine() {
  has curl && curl -sf -m 20 "${@:2}" "$1/_ping" >/dev/null 2>&1
}

install_packages() {
  is_root || give_up "packages are missing: as root, apt-get install $*"
  has apt-get || give_up "these Debian packages, or what holds the same, are missing: $*"
  echo "installing $*" >&2
  apt_get update
  apt_get install --no-install-recommends "$@"
}

# apt-get with patience. Its own option waits for dpkg's lock only, so the others (lists, archives) are waited for here.
apt_get() {
  local give_up_at=$((SECONDS + LOCK_LIMIT)) said
  until said=$(DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout="$LOCK_LIMIT" "$@" 2>&1 </dev/null); do
    case $said in
      *"Could not get lock"* | *"Unable to lock"*) [ "$SECONDS" -lt "$give_up_at" ] && sleep 1 && continue ;;
    esac
    printf '%s\n' "$said" >&2
    give_up "apt-get $* failed"
  done
}

has() { command -v "$1" >/dev/null; }

is_root() { [ "$(id -u)" = 0 ]; }

give_up() {
  echo "$*" >&2
  exit "$UNAVAILABLE"
}
