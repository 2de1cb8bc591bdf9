#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# bash completion of cbwctl: commands, options, files, and the names of the
# snapshots that can be dropped.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl create "$shm" monday >/dev/null
cbwctl create "$shm" 'with space' >/dev/null
cbwctl create "$shm" hidden >/dev/null
cbwctl drop "$shm" hidden >/dev/null

cat >"$tmp/complete.sh" <<'END'
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
_cbwctl 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
END
# completes EXPECTED WORD...: the last word is the one to be completed.
completes ()
{
    local expected=$1 got
    shift
    got=$(bash "$tmp/complete.sh" "$top_srcdir/tools/cbwctl/completion/cbwctl" \
               "$cbwctl" "$@" | tr '\n' ' ')
    [ "$got" = "$expected " ] || fail "$*: \"$got\" instead of \"$expected\""
}
completes "create checkpoint check" c
completes "status" st
completes "--target=" create "$shm" x --ta
completes "--on-error=" create "$shm" x --o
completes "break-guest-write" create "$shm" x --on-error = break-g
completes "$tmp/monday.cow" create "$shm" x --access = "$tmp/monday"
completes "monday with\\ space" drop "$shm" ""
completes "with\\ space" drop "$shm" monday w
completes "monday" map "$shm" m
cbwctl checkpoint "$shm" morning >/dev/null
completes "monday morning" drop "$shm" mo
completes "monday morning.." map "$shm" mo
completes "morning..monday" map "$shm" morning..m
completes "monday" backup "$shm" mo
completes "--keep-checkpoint" drop "$shm" --k
completes "$shm" status "$tmp/sh"
completes "$tmp/monday.cow" create "$shm" x --target = "$tmp/mon"
