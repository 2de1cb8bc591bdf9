#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A segment is not taken over when disk or parameters do not fit: the
# message says what differs.  Nothing changes: the right server still can.
# Nor is it while a server lives: the message names its process.

. ./functions.sh
set -e

random_file "$tmp/original" 1M
cp "$tmp/original" "$tmp/disk"
head -c 1000000 "$tmp/disk" >"$tmp/smaller"
args=(cbw-shm="$shm" cbw-target="$tmp/target")

start_disk file "$tmp/disk" "${args[@]}" cbw-cluster-size=64k
start_snap "$shm"
guest <<PY
h.pwrite (b"1" * 100000, 50000)
PY

# -- While it lives
pid=$(server_pid disk)
for a in cbw-target="$tmp/target" cbw-target="$tmp/other" cbw-threads=1; do
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" "$a"
    expect_in "$tmp/refused.log" "$shm: is being served by process $pid"
    absent "$tmp/other"
done
# Its target is locked, whatever segment the other one has.
refused --filter="$filter" file "$tmp/disk" cbw-shm="$tmp/shm2" \
        cbw-target="$tmp/target"
expect_in "$tmp/refused.log" "$tmp/target: "
absent "$tmp/shm2"
guest <<PY
h.pwrite (b"2" * 100000, 500000)
PY
view_is "$tmp/original"
stop_server disk

# -- After it has ended
refuse ()
{
    local text=$1
    shift
    refused --filter="$filter" "$@" cbw-shm="$shm"
    expect_in "$tmp/refused.log" "$text"
    absent "$tmp/other"
}

refuse "$shm: was made with cbw-cluster-size=65536, not 4096" \
       file "$tmp/disk" cbw-cluster-size=4k cbw-target="$tmp/target"
refuse "$shm: was made with cbw-cluster-size=65536, not 131072" \
       file "$tmp/disk" cbw-cluster-size=128k
refuse "$shm: was made for a disk of 1048576 bytes, and this one has only 1000000" \
       file "$tmp/smaller"
refuse "$shm: was made for a disk of 1048576 bytes, and this one has only 1048575" \
       memory 1048575 cbw-target="$tmp/target"
refuse "the target of snapshot \"snapshot\" is $tmp/target, not $tmp/other" \
       file "$tmp/disk" cbw-target="$tmp/other"
refuse "$tmp/target: is in use by this server" \
       file "$tmp/disk" cbw-target="$tmp/target" cbw-snapshot=second
[ "$(stat -c %s "$tmp/target")" = 1048576 ] || fail "the target was changed"

# -- The right one: also with its cluster size given
start_disk file "$tmp/disk" "${args[@]}" cbw-cluster-size=64k \
           cbw-snapshot=snapshot
view_is "$tmp/original"
guest <<PY
h.pwrite (b"3" * 1024 * 1024, 0)
PY
view_is "$tmp/original"
