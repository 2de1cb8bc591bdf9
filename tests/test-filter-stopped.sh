#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter ends, stopped or killed, while the view has readers: their
# requests fail with ESHUTDOWN within two seconds, also those under way,
# and the plugin itself ends in good order.

. ./functions.sh
set -e

for signal in TERM KILL; do
    rm -f "$tmp/stopped" "$tmp/reading" "$shm" "$tmp/target"
    truncate -s 8M "$tmp/disk"
    # Slow, so that there are always reads under way.
    start_disk --filter=delay file "$tmp/disk" rdelay=300ms \
               cbw-shm="$shm" cbw-target="$tmp/target" cbw-threads=2
    start_snap "$shm"

    reader <<PY >"$tmp/reader.log" 2>&1 &
import errno, os, time
h.pread (512, 0)
buffers = [nbd.Buffer (64 * 1024) for i in range (16)]
cookies = [h.aio_pread (b, i * 64 * 1024) for i, b in enumerate (buffers)]
open ("$tmp/reading", "w").close ()
errors = []
while cookies:
    h.poll (100)
    for c in list (cookies):
        try:
            if not h.aio_command_completed (c):
                continue
        except nbd.Error as e:
            errors.append (e.errnum)
        cookies.remove (c)
# All but the few that were through by then.
assert len (errors) >= 8, errors
assert set (errors) == { errno.ESHUTDOWN }, errors
while not os.path.exists ("$tmp/stopped"):
    time.sleep (0.02)
for op in [lambda: h.pread (512, 0),
           lambda: h.block_status (1024 * 1024, 0, lambda *a: 0),
           lambda: h.cache (512, 0)]:
    start = time.monotonic ()
    try:
        op ()
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.ESHUTDOWN, e.string
    assert time.monotonic () - start < 2
PY
    pid=$!
    wait_for 30 test -e "$tmp/reading" || fail "the reader did not start"
    start=$(date +%s%N)
    if [ $signal = TERM ]; then stop_server disk; else kill_server disk KILL; fi
    touch "$tmp/stopped"
    wait $pid || { cat "$tmp/reader.log" >&2; fail "$signal: the reader"; }
    ms=$(( ($(date +%s%N) - start) / 1000000 ))
    # Two seconds for those under way, and for each of the three after.
    [ $ms -lt 8000 ] || fail "$signal: the reader took $ms ms"
    stop_server snap
done
