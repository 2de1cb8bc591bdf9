#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# NBD servers that cannot be a target: what is wrong is said, nothing is
# changed, and the guest never notices.
set -e
. ./functions.sh

uri="nbd+unix:///?socket=$tmp/target.sock"
start_disk memory 1M cbw-shm="$shm" cbw-commands=on
create ()
{
    cbwctl_fails 1 "$2" create "$shm" snapshot --target="$1"
    cbwctl status --json "$shm" | json 'j["snapshots"] == []'
}
with ()
{
    local text=$1
    shift
    start_nbdkit target "$@"
    create "$uri" "$text"
    stop_server target
}

with "the export has 524288 bytes, and the disk has 1048576" memory 512k
with "does not allow writing" -r memory 1M
with "the export holds data" data '1 2 3' size=1M
create "$uri" "cannot connect"
create "nbd+unix:///?socket=$tmp/none.sock" "No such file"
create "nbds+unix:///?socket=$tmp/none.sock" "cannot connect"
create "nbd://" "cannot connect"
create "[ $tmp/none ]" "cannot be run: No such file"
create "[ false ]" "the command ended with status 1"
create "[ qemu-nbd" "must be a command in brackets"
create "[]" "must be a command in brackets"
create "[ ]" "must be a command in brackets"

start_nbdkit target --filter=exportname memory 1M exportname=right \
             exportname-strict=true
create "nbd+unix:///wrong?socket=$tmp/target.sock" "cannot connect"
stop_server target

# Each export is the target of one snapshot.
start_nbdkit target memory 1M
cbwctl create "$shm" first --target="$uri" >/dev/null
cbwctl_fails 1 "is the target of snapshot \"first\"" \
             create "$shm" second --target="$uri"
cbwctl create "$shm" zeroth-and-last --target="$tmp/file" >/dev/null
guest <<'PY'
h.pwrite (b"x", 0)
PY
cbwctl check "$shm" >/dev/null
stop_server disk

# The same on the command line: it is said before the server goes into the
# background.
refused --filter="$filter" memory 1M cbw-shm="$tmp/other" cbw-target="[ false ]"
expect_in "$tmp/refused.log" "the command ended with status 1"
absent "$tmp/other"
