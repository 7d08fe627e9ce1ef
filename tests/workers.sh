#!/bin/sh
# usage: tests/workers.sh PROGRAM MODEL
# Two network namespaces, each with a worker at an address of its own → the same answer as without them, and a worker whose
# packets are lost is given up. Exit code 77 with a reason where that cannot be tried.

set -eu
program=$1 model=$2
a=fireside-a-$$ b=fireside-b-$$
skip() { echo "$*" >&2; exit 77; }
fail() { echo "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "there is no ip command"
ip netns add "$a" 2>/dev/null || skip "no network namespace can be made here"
home=$(mktemp -d)
cleanup() {
    for name in "$a" "$b"; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill -9
        ip netns del "$name" 2>/dev/null || true
    done
    rm -rf "$home"
}
trap cleanup EXIT
ip netns add "$b"
ip link add veth0 netns "$a" type veth peer name veth0 netns "$b" 2>/dev/null || skip "no pair of interfaces can be made here"
for one in "$a 10.77.0.1" "$b 10.77.0.2"; do
    # shellcheck disable=SC2086 # two words
    set -- $one
    ip -n "$1" addr add "$2/24" dev veth0
    ip -n "$1" link set veth0 up
    ip -n "$1" link set lo up
done

export HOME="$home" FIRESIDE_THREADS=1 OMP_WAIT_POLICY=passive
token=$home/token
for one in "$a 10.77.0.1" "$b 10.77.0.2"; do
    # shellcheck disable=SC2086 # two words
    set -- $one
    mkfifo "$home/said-$2"
    ip netns exec "$1" "$program" worker --listen "$2:50052" --allow-remote --token-file "$token" --cache-size 0 2>"$home/said-$2" &
    exec 3<"$home/said-$2"
    read -r _ <&3 || fail "the worker at $2 does not start"
    cat <&3 >"$home/log-$2" & # the rest of what it says must go somewhere
done

ask() { ip netns exec "$a" "$program" -m "$model" --temp 0 -n 24 --no-repack --flash-attn=on --no-prompt-cache --no-speculative -q --raw -p "The quick brown fox" "$@"; }
alone=$(ask)
both=$(ask --rpc 10.77.0.1:50052,10.77.0.2:50052 --rpc-token "$token" --tensor-split 1,1)
[ "$alone" = "$both" ] || fail "another answer: $alone / $both"

# From here on its packets are lost.
ip -n "$b" link set veth0 down
if said=$(ask --rpc 10.77.0.2:50052 --rpc-token "$token" --rpc-timeout 1 2>&1); then
    fail "a worker that cannot be reached was used"
fi
case $said in
    *"at 10.77.0.2:50052"*) ;;
    *) fail "$said" ;;
esac
