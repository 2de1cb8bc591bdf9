#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server that stops does not wait until the buffer is empty, with a backup
# that waits for that or without, and is left in order; and the backup is
# not said to be complete.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 6M
cp "$tmp/disk" "$tmp/original"
start_filter ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-writeback=8M \
               cbw-cluster-size=4k -D cbw.stuck_wait=20
}
job () { cbwctl status "$shm" --json | json "j['snapshots'][0]['job']$1"; }

start_filter
cbwctl backup "$shm" --to="$tmp/target" --speed=4k --detach >/dev/null
target_fault sleep 0.5
guest <<PY
for i in range (12):
    h.pwrite (b"1" * 500000, i * 524288)
    h.pwrite (b"1" * 24288, i * 524288 + 500000)
PY
cbwctl backup "$shm" --speed=0 --detach >/dev/null 2>&1 || :
stop_server disk
[ "$(segment get "$shm" clean)" = 1 ] || fail "it was not left in order"
cbwctl status "$shm" --json | json "j['writeback']['used'] > 0"
job "['status'] == 'running'"

target_fault none
start_filter
wait_for 20 job "['status'] == 'concluded'"
stop_server disk
cmp "$tmp/target" "$tmp/original" || fail "the image"
