#!/bin/sh
# Make the keys that docker-compose.yml mounts, where they are not there yet: sh deploy/compose/prepare.sh
#
# The folder keeps other users of this machine out; inside it the files are readable, because a container's user
# has another number than yours and is given the file alone.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)/secrets
(umask 077 && mkdir -p "$folder")

make() {
    [ -e "$folder/$1" ] && return
    "$2" >"$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

masking_key() { head -c 32 /dev/urandom; }
# The demo reranker asks for this very key. Put your reranker's own there instead.
upstream_key() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

make masking_key masking_key
make upstream_key upstream_key
