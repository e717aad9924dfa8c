#!/usr/bin/env bash
# Install what the gate is compared with into .cache, once; what cannot be had is named and left out of the run.
set -u
cd "$(dirname "$0")/.." || exit 1

CACHE=$PWD/.cache
PYTHON=${PYTHON:-.venv/bin/python}
OPA=github.com/open-policy-agent/opa@v1.22.2
PRESIDIO=presidio-analyzer==2.2.366

mkdir -p "$CACHE/bin" "$CACHE/log"

# with_go NAME ARGUMENTS...: what go installs it from.
with_go() {
    local name=$1
    shift
    [ -x "$CACHE/bin/$name" ] || command -v "$name" >/dev/null && return
    command -v go >/dev/null || { echo "no $name: neither it nor go is on PATH"; return; }
    echo "building $name into .cache/bin, once ..."
    GOBIN=$CACHE/bin GOFLAGS='' timeout 600 go "$@" >"$CACHE/log/$name.log" 2>&1 </dev/null ||
        echo "no $name: go could not build it, see .cache/log/$name.log"
}

with_go opa install "$OPA"
# By a module of ours: `go install` of a version first asks for the list of all versions, which not every proxy has.
with_go opa-envoy-plugin -C bench/opa-envoy-plugin install tool
# An environment of its own: it would change what rankgate runs with.
if [ ! -f "$CACHE/presidio/.done" ]; then
    echo "installing Presidio into .cache/presidio, once ..."
    { "$PYTHON" -m venv "$CACHE/presidio" && "$CACHE/presidio/bin/python" -m pip install --quiet "$PRESIDIO" &&
        touch "$CACHE/presidio/.done"; } >"$CACHE/log/presidio.log" 2>&1 </dev/null ||
        echo "no Presidio: pip could not install it, see .cache/log/presidio.log"
fi
exit 0
