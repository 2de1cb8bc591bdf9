#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Guests' writes do not wait for a target that hangs, as long as the buffer
# has room; the view is right; and a filter that is killed meanwhile loses
# nothing.

. ./functions.sh
set -e
requires nbdcopy

target_faults "$tmp/target"
random_file "$tmp/disk" 8M
cp "$tmp/disk" "$tmp/original"
used () { cbwctl status "$shm" --json | json "j['writeback']['used'] $1"; }
start_filter ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm" -D cbw.stuck_wait=1 \
               cbw-target="$tmp/target" "$@"
}

target_fault hang
start_filter cbw-writeback=1M
start_snap "$shm" timeout=60
guest <<PY
h.pwrite (b"1" * 300000, 4096 * 3)
h.zero (100000, 5000000)
h.pwrite (b"2" * 100, 8 * 1024 * 1024 - 100)
PY
used ">= 300000"
cbwctl status "$shm" | grep -q "write-back .* of 1 MiB wait" || fail status
view_is "$tmp/original"

# The buffer is full: the next one waits.
guest >"$tmp/guest.log" 2>&1 <<PY &
h.pwrite (b"3" * 2000000, 2000000)
PY
waiting=$!
wait_for 10 used "> 800000"
guest <<PY
h.pread (100000, 2000000)
PY
kill -0 $waiting || fail "it did not wait: $(cat "$tmp/guest.log")"

kill_server disk KILL
wait $waiting && fail "the server was killed, and the write succeeded" || :
used "> 800000"
cbwctl check "$shm"

# The next one has it, though the target still hangs.
start_filter cbw-writeback=1M
view_is "$tmp/original"
guest <<PY
h.pwrite (b"4" * 4096, 12288)
PY
kill_server disk KILL

# And writes it, without a buffer of its own too.
start_filter
view_is "$tmp/original"
target_fault none
wait_for 10 used "== 0"
guest <<PY
h.pwrite (b"4" * 400000, 7000000)
PY
used "== 0"
view_is "$tmp/original"
cbwctl check "$shm" >/dev/null

# A server that is stopped in order may leave something, too.
stop_server disk
target_fault hang
start_filter cbw-writeback=1M
guest <<PY
h.pwrite (b"5" * 50000, 1000000)
PY
stop_server disk
used "> 0"
target_fault none
start_filter cbw-writeback=1M
wait_for 10 used "== 0"
view_is "$tmp/original"
