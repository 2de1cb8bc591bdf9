#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The segment says whether guests write just now: with a snapshot, or without
# one.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
# says N
says ()
{
    [ "$(segment get "$shm" guests_write)" -eq "$1" ]
}

start_disk file "$tmp/disk" cbw-shm="$shm"
says 0 || fail "no guest has written"
for snapshot in "" s; do
    [ -z "$snapshot" ] || cbwctl create "$shm" $snapshot >/dev/null
    mkfifo "$tmp/stop$snapshot"
    guest >/dev/null <<PY &
import os
stop = os.open ("$tmp/stop$snapshot", os.O_RDONLY | os.O_NONBLOCK)
os.set_blocking (stop, False)
while True:
    h.pwrite (b"1" * 512, 0)
    try:
        if os.read (stop, 1):
            break
    except BlockingIOError:
        pass
PY
    writer=$!
    wait_for 20 says 1 || fail "a guest writes, and it says 0"
    echo stop >"$tmp/stop$snapshot"
    wait $writer
    wait_for 20 says 0 || fail "no guest writes any more, and it says 1"
done

# A guest that only reads does not count.
echo 'h.pread (512, 0)' | guest
says 0 || fail "a guest reads, and it says 1"
stop_server disk
says 0 || fail "the server has stopped, and it says 1"
