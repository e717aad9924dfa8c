#!/bin/sh
# Build rankgate into a folder: sh deploy/build.sh DIRECTORY
#
# The Dockerfile runs this and nothing else to build, and so does a test, in a clean folder. What is installed
# comes from the two locks beside this file, each file checked by its hash. DIRECTORY has to stay where it is built.
set -eu

to=${1:?usage: sh deploy/build.sh DIRECTORY}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

"${PYTHON:-python3}" -m venv "$work/build"
pip="$work/build/bin/python -m pip --quiet"
$pip install --require-hashes -r "$root/deploy/build.lock"
$pip wheel --no-deps --no-build-isolation --wheel-dir "$work" "$root"

# Without pip: nothing can be installed into what runs.
"${PYTHON:-python3}" -m venv --without-pip "$to"
$pip --python "$to/bin/python" install --require-hashes --only-binary :all: -r "$root/deploy/image.lock"
$pip --python "$to/bin/python" install --no-deps "$work"/rankgate-*.whl
$pip --python "$to/bin/python" check
