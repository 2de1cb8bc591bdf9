#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin is killed with SIGKILL while it has many requests in flight:
# guest writes are not delayed, and its slots are not lost.  Done often
# enough to use up all 64 slots if they were.

. ./functions.sh
set -e

random_file "$tmp/original" 8M
cp "$tmp/original" "$tmp/disk"
# Slow reads and few threads keep slots busy in all states.
start_disk --filter=delay file "$tmp/disk" delay-read=20ms \
           cbw-shm="$shm" cbw-target="$tmp/target" cbw-threads=2

# A guest writes all the time, to one cluster which is done, and notes the
# longest write.
guest <<PY >"$tmp/guest.log" 2>&1 &
import os, time
h.pwrite (b"0" * 65536, 0)
longest = 0
n = 0
while not os.path.exists ("$tmp/stop"):
    start = time.monotonic ()
    h.pwrite (b"%d" % (n % 10) * 4096, 4096 * (n % 16))
    longest = max (longest, time.monotonic () - start)
    n += 1
print ("%d writes, the longest took %f s" % (n, longest))
assert n > 100
assert longest < 1
PY
guest=$!

# 5 rounds of up to 32 slots held.
for i in 1 2 3 4 5; do
    rm -f "$tmp/reading"
    start_snap "$shm"
    reader <<PY >"$tmp/reader.log" 2>&1 &
buffers = [nbd.Buffer (512 * 1024) for i in range (16)]
cookies = [h.aio_pread (b, i * 512 * 1024) for i, b in enumerate (buffers)]
# Two are through; the slots are with all the others.
while len (cookies) > 14:
    h.poll (-1)
    cookies = [c for c in cookies if not h.aio_command_completed (c)]
open ("$tmp/reading", "w").close ()
try:
    while True:
        h.poll (-1)
except nbd.Error:
    pass
PY
    pid=$!
    wait_for 30 test -e "$tmp/reading" ||
        { cat "$tmp/reader.log"; fail "round $i: the reader"; }
    kill_server snap KILL
    wait $pid || :
done

# All slots are there for the next one: it reads everything.
start_snap "$shm"
view_is "$tmp/original"
touch "$tmp/stop"
wait $guest || { cat "$tmp/guest.log" >&2; fail "the guest"; }
cat "$tmp/guest.log"
