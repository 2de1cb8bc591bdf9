#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin with timeout= rides over a restart of the filter: reads under
# way and reads issued while it is down succeed after.  When that time is
# over, and no filter came, they fail with ESHUTDOWN.

. ./functions.sh
set -e

random_file "$tmp/original" 4M
cp "$tmp/original" "$tmp/disk"
args=(file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target")

for end in TERM KILL; do
    rm -f "$tmp/reading" "$tmp/down"
    # Before SIGKILL reads are slow, so that it finds some half done.  (Before
    # SIGTERM they are not: this filter's sleep then ends with an error.)
    if [ $end = TERM ]; then
        start_disk "${args[@]}"
    else
        start_disk --filter=delay "${args[@]}" delay-read=20ms cbw-threads=4
    fi
    start_snap "$shm" timeout=60

    reader <<PY >"$tmp/reader.log" 2>&1 &
import os
original = open ("$tmp/original", "rb").read ()
chunk = 128 * 1024
def read_all (nr_times, stop_file):
    # Many at a time, all the time.
    done = 0
    while done < nr_times or not os.path.exists (stop_file):
        buffers = [nbd.Buffer (chunk) for i in range (len (original) // chunk)]
        cookies = [h.aio_pread (b, i * chunk) for i, b in enumerate (buffers)]
        while cookies:
            h.poll (-1)
            cookies = [c for c in cookies if not h.aio_command_completed (c)]
        for i, b in enumerate (buffers):
            assert b.to_bytearray () == original[i * chunk:(i + 1) * chunk], i
        done += 1
        if done == 2:
            open ("$tmp/reading", "w").close ()
read_all (5, "$tmp/down")
read_all (2, "$tmp/up")
PY
    pid=$!
    wait_for 30 test -e "$tmp/reading" || fail "the reader did not start"
    if [ $end = TERM ]; then stop_server disk; else kill_server disk KILL; fi
    touch "$tmp/down"
    # One issued now, of each kind.
    reader <<PY >"$tmp/reader2.log" 2>&1 &
open ("$tmp/issued", "w").close ()
assert h.pread (512, 1000) == open ("$tmp/original", "rb").read ()[1000:1512]
PY
    pid2=$!
    reader <<PY >"$tmp/reader3.log" 2>&1 &
n = 0
def f (context, offset, entries, err):
    global n
    n += sum (entries[0::2])
h.block_status (4 * 1024 * 1024, 0, f)
h.cache (512, 0)
assert n > 0
PY
    pid3=$!
    wait_for 30 test -e "$tmp/issued" || fail "the second reader did not start"

    start_disk "${args[@]}"
    guest <<PY
h.pwrite (b"w" * 3000000, 500000)
PY
    touch "$tmp/up"
    wait $pid || { cat "$tmp/reader.log" >&2; fail "$end: reads under way"; }
    wait $pid2 || { cat "$tmp/reader2.log" >&2; fail "$end: a read"; }
    wait $pid3 || { cat "$tmp/reader3.log" >&2; fail "$end: a map"; }
    view_is "$tmp/original"
    stop_server snap
    stop_server disk
    rm -f "$tmp/up" "$tmp/issued"
done

# The time is over.
start_disk "${args[@]}"
start_snap "$shm" timeout=1
reader <<PY &
import errno, os, time
while not os.path.exists ("$tmp/gone"):
    time.sleep (0.02)
start = time.monotonic ()
try:
    h.pread (512, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.ESHUTDOWN, e.string
took = time.monotonic () - start
assert 1 <= took < 4, took
PY
pid=$!
kill_server disk KILL
touch "$tmp/gone"
wait $pid || fail "after the timeout"

# And a filter that comes later still finds its reader there.
start_disk "${args[@]}"
view_is "$tmp/original"
