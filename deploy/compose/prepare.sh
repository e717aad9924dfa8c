#!/bin/sh
# Make the keys that docker-compose.yml mounts, where they are not there yet: sh deploy/compose/prepare.sh
#
#   sh deploy/compose/prepare.sh console    the console's too, with `rankgate console keys` of the image
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
password() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }

# Who may do what in Redis: docs/audit.md and docs/decisions/approvals.md. Nobody without a password but for its health.
redis_users() {
    cat <<END
user default reset on nopass -@all +ping
user audit reset on >$(cat "$folder/audit_password") ~audit:* -@all +xadd +xrange +xinfo|stream +multi +exec
user state reset on >$(cat "$folder/state_password") ~state:* -@all +evalsha +eval +time +get +mget +set +exists +pexpire +pexpireat +pexpiretime +hget +hmget +hgetall +hexists +hset +hdel +hincrby +zadd +zrem +zcard +zrange +zrangebyscore +zrevrangebylex +zremrangebyscore +xadd +xread +xrevrange
user reader reset on >$(cat "$folder/reader_password") ~audit:* -@all +@read +ping
END
}

make masking_key masking_key
make upstream_key upstream_key
make audit_password password
make state_password password
make reader_password password
make redis_users redis_users

[ "${1-}" = console ] || exit 0

# The private halves are the console's alone, the public ones the gates'. RANKGATE names another rankgate than the image's.
console_keys() {
    if [ -n "${RANKGATE-}" ]; then
        $RANKGATE console keys --directory "$folder/console"
    else
        docker run --rm --network none --user "$(id -u):$(id -g)" --volume "$folder:/keys" \
            "${GATE_IMAGE:-rankgate:0.1.0}" rankgate.cli console keys --directory /keys/console
    fi
}

if [ ! -e "$folder/approvals.env" ]; then
    # In one go, so that no half of it is left where that fails.
    console_keys 2>/dev/null >"$folder/approvals.new" || { console_keys; exit 1; }
    chmod 444 "$folder/console"/*
    mv "$folder/console/vote-key.pem" "$folder/vote_key"
    mv "$folder/console/vote-key.pub.pem" "$folder/vote_key_public"
    mv "$folder/console/preview-key.txt" "$folder/preview_key"
    rmdir "$folder/console"
    sed -n 's/^preview_recipient = "\(.*\)"$/RANKGATE_APPROVALS__PREVIEW_RECIPIENT=\1/p' "$folder/approvals.new" >"$folder/approvals.env"
    rm "$folder/approvals.new"
    echo "made $folder/vote_key, vote_key_public, preview_key and approvals.env"
fi
