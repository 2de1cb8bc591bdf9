#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The segment says that its server is alive, and that it is not as soon as the
# server has been killed, has stopped, or could not stop in good order.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
word ()
{
    segment get "$shm" alive
}
# A thread's id, or that it has died.
is_alive () { [ "$(word)" -gt 0 ] && [ "$(word)" -lt $(( 0x40000000 )) ]; }
is_dead () { [ "$(word)" -eq $(( 0x40000000 )) ]; }

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
is_alive || fail "it serves, and the word is $(word)"
[ -d "/proc/$(server_pid disk)/task/$(word)" ] ||
    [ -n "${CBW_VALGRIND:-}" ] || fail "$(word) is no thread of the server's"
stop_server disk
[ "$(word)" -eq 0 ] || fail "it has stopped, and the word is $(word)"

# Killed: known as soon as the process is gone.
for _ in 1 2 3 4 5; do
    start_disk file "$tmp/disk" cbw-shm="$shm"
    is_alive || fail "it serves again, and the word is $(word)"
    kill_server disk KILL
    is_dead || fail "it was killed, and the word is $(word)"
done

# A server that does not start says nothing.
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=1M
is_dead || fail "no server has begun, and the word is $(word)"

# One that leaves a thread behind, which hangs in a flush of the target.  (TSan
# does not like that, and valgrind's servers have no such faults.)
[ "$SANITIZERS" != thread ] && [ -z "${CBW_VALGRIND:-}" ] || exit 0
target_faults "$tmp/target"
start_disk file "$tmp/disk" cbw-shm="$shm" -D cbw.stuck_wait=1
target_fault hang-flush
echo 'h.pwrite (b"1" * 4096, 0)' | guest
kill "$(server_pid disk)"
await_server disk
expect_in "$tmp/disk.log" "its target has not been flushed in time"
is_dead || fail "it left in disorder, and the word is $(word)"
