#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A reader waits for a target whose NBD server hangs, and a flush for a file whose
# disk hangs, when the server is told to end.  It ends in time all the same, with
# other targets flushed, the reader interrupted, and says what it left; the
# segment is not left in order, and another server takes it up.
set -e
. ./functions.sh
# TSan does not like threads that are left to themselves.
if [ "$SANITIZERS" = thread ]; then
    skip "threads are left behind"
fi

target_faults "$tmp/slow"
random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
truncate -s 4M "$tmp/remote"
start_nbdkit target file "$tmp/remote"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
           -D cbw.stuck_wait=2
for s in hangs slow good; do
    case $s in
        hangs) to="nbd+unix:///?socket=$tmp/target.sock" ;;
        *) to=$tmp/$s ;;
    esac
    cbwctl create "$shm" $s --target="$to" >/dev/null
    guest <<PY
h.pwrite (b"${s:0:1}" * 1000000, 0)
PY
done
start_snap "$shm"
kill_server target STOP
nbdsh -u "nbd+unix:///hangs?socket=$tmp/snap.sock" \
      -c 'h.pread (1000000, 0)' >/dev/null 2>&1 &
running () { cbwctl status "$shm" --json | json "j['requests']['running'] > 0" 2>/dev/null; }
wait_for 20 running || fail "nobody reads"

target_fault hang-flush
start=$(date +%s%N)
stop_server disk
took=$(( ($(date +%s%N) - start) / 1000000 ))
[ $took -lt 8000 ] || fail "it took $took ms to end"
expect_in "$tmp/disk.log" "this server is stopping, and waits no longer for the target"
not_in "$tmp/disk.log" "requests of clients are stuck"
expect_in "$tmp/disk.log" "snapshot \"slow\": its target has not been flushed in time"
not_in "$tmp/disk.log" "snapshot \"good\": its target has not been flushed"
not_in "$tmp/disk.log" "is broken"
[ "$(segment get "$shm" clean)" = 0 ] || fail "it says that it was left in order"

# nbdkit does not survive that its replies are waited for no more.
kill_server target KILL
start_nbdkit target file "$tmp/remote"
target_fault none
stop_server snap
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
view_is "$tmp/original" "nbd+unix:///hangs?socket=$tmp/snap.sock"
stop_server disk
[ "$(segment get "$shm" clean)" = 1 ] || fail "it was not left in order"
