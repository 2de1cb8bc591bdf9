#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What cannot be brought from the buffer to the target breaks the snapshot,
# after the wait for space that was asked for; and what does not go with
# cbw-writeback is refused.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 4M
start_filter ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-writeback=1M "$@"
}
state () { cbwctl status "$shm" --json | json "j['snapshots'][0]['$1'] == $2"; }
write () { guest <<<"h.pwrite (b'x' * 40000, $1)"; }

# An error: the guest's write is done, the snapshot is not to be saved.
start_filter cbw-target="$tmp/target"
start_snap "$shm"
target_fault errno 5
write 100000
wait_for 10 state state "'broken'"
cbwctl status "$shm" | grep -q "Input/output error" || fail "status"
reader <<PY
try:
    h.pread (4096, 100000)
    assert False
except nbd.Error as e:
    assert e.errno == "EIO", e
PY
write 200000
cbwctl drop "$shm" snapshot
stop_server disk

# No space, and then there is some.
target_fault errno 28
cp "$tmp/disk" "$tmp/original"
start_filter cbw-target="$tmp/target" cbw-full=stall:60
write 300000
wait_for 10 state stalled True
write 400000
target_fault none
wait_for 10 state stalled False
state state "'live'"
view_is "$tmp/original"

# A promise that cannot be kept
cbwctl_fails 1 "its server has cbw-writeback" create "$shm" strict \
             --on-error=break-guest-write
cbwctl create "$shm" lax
stop_server disk
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" cbw-writeback=2M
expect_in "$tmp/refused.log" "was made with cbw-writeback=1048576, not 2097152"
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl create "$shm" strict --on-error=break-guest-write
stop_server disk
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" cbw-writeback=1M
expect_in "$tmp/refused.log" '"strict" was made with on-error=break-guest-write'
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl drop "$shm" strict lax
view_is "$tmp/original"
stop_server disk
rm "$shm"

# bad TEXT ARGS...
bad ()
{
    local text=$1
    shift
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" "$@"
    expect_in "$tmp/refused.log" "$text"
    absent "$shm" "$tmp/new"
}
bad "cbw-writeback=big: is not a size" cbw-writeback=big
bad "cbw-writeback=1000: must be 0 (none), or between 1M and 16G" \
    cbw-writeback=1000
bad "cbw-writeback=17G: must be 0 (none)" cbw-writeback=17G
bad "cbw-writeback does not go with cbw-on-error=break-guest-write" \
    cbw-writeback=1M cbw-target="$tmp/new" cbw-on-error=break-guest-write
bad "cbw-writeback=2097152: must have room for 8 clusters" \
    cbw-writeback=2M cbw-cluster-size=1M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-writeback=0
stop_server disk
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" cbw-writeback=1M
expect_in "$tmp/refused.log" "was made with cbw-writeback=0, not 1048576"
