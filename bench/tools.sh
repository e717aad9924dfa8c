#!/usr/bin/env bash
# Install what the gate is compared with into .cache, once; what cannot be had is named and left out of the run.
set -u
cd "$(dirname "$0")/.." || exit 1

CACHE=$PWD/.cache
PYTHON=${PYTHON:-.venv/bin/python}
OPA=github.com/open-policy-agent/opa@v1.22.2
OPA_ENVOY_PLUGIN=github.com/open-policy-agent/opa-envoy-plugin/cmd/opa-envoy-plugin@v1.10.0-envoy
PRESIDIO=presidio-analyzer==2.2.366

mkdir -p "$CACHE/bin" "$CACHE/log"

# with_go NAME PACKAGE
with_go() {
    [ -x "$CACHE/bin/$1" ] || command -v "$1" >/dev/null && return
    command -v go >/dev/null || { echo "no $1: neither it nor go is on PATH"; return; }
    echo "building $1 into .cache/bin, once ..."
    GOBIN=$CACHE/bin GOFLAGS='' timeout 600 go install "$2" >"$CACHE/log/$1.log" 2>&1 </dev/null ||
        echo "no $1: go could not build it, see .cache/log/$1.log"
}

with_go opa "$OPA"
with_go opa-envoy-plugin "$OPA_ENVOY_PLUGIN"
# An environment of its own: it would change what rankgate runs with.
if [ ! -f "$CACHE/presidio/.done" ]; then
    echo "installing Presidio into .cache/presidio, once ..."
    { "$PYTHON" -m venv "$CACHE/presidio" && "$CACHE/presidio/bin/python" -m pip install --quiet "$PRESIDIO" &&
        touch "$CACHE/presidio/.done"; } >"$CACHE/log/presidio.log" 2>&1 </dev/null ||
        echo "no Presidio: pip could not install it, see .cache/log/presidio.log"
fi
exit 0
