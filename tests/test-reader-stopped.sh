#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin is stopped with SIGSTOP while it has requests in flight: guest
# writes go on, a second plugin reads everything, and the first one, when
# continued, goes on where it was.

. ./functions.sh
set -e

random_file "$tmp/original" 8M
cp "$tmp/original" "$tmp/disk"
start_disk --filter=delay file "$tmp/disk" delay-read=10ms \
           cbw-shm="$shm" cbw-target="$tmp/target" cbw-threads=2
start_snap "$shm"

reader <<PY >"$tmp/reader.log" 2>&1 &
import os
original = open ("$tmp/original", "rb").read ()
chunk = 512 * 1024
rounds = 0
while rounds < 2 or not os.path.exists ("$tmp/continued"):
    buffers = [nbd.Buffer (chunk) for i in range (16)]
    cookies = [h.aio_pread (b, i * chunk) for i, b in enumerate (buffers)]
    open ("$tmp/reading", "w").close ()
    while cookies:
        h.poll (-1)
        cookies = [c for c in cookies if not h.aio_command_completed (c)]
    for i, b in enumerate (buffers):
        assert b.to_bytearray () == original[i * chunk:(i + 1) * chunk], i
    rounds += 1
PY
pid=$!
wait_for 30 test -e "$tmp/reading" || fail "the reader did not start"

kill_server snap STOP
stopped () { grep -q '^State:.*T' "/proc/$(server_pid snap)/status"; }
wait_for 10 stopped || fail "SIGSTOP"

# First touches, and repeated ones, none held up by who is stopped.
guest <<PY
import time
longest = 0
for i in range (256):
    start = time.monotonic ()
    h.pwrite (b"g" * 4096, (i * 37 % 128) * 65536)
    longest = max (longest, time.monotonic () - start)
assert longest < 1, longest
h.flush ()
PY

start_nbdkit second "$plugin" "$shm"
second="nbd+unix:///?socket=$tmp/second.sock"
view_is "$tmp/original" "$second"

kill_server snap CONT
touch "$tmp/continued"
wait $pid || { cat "$tmp/reader.log" >&2; fail "the first reader"; }
view_is "$tmp/original"
view_is "$tmp/original" "$second"

# Stopped, and killed while stopped.
kill_server snap STOP
kill_server snap KILL
view_is "$tmp/original" "$second"
