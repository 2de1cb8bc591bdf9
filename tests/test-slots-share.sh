#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Five plugins are stopped while they read as much as they may: more than there
# are slots.  Others read, and cbwctl works; what those left lying is taken
# back.  When they go on they have the right bytes.
set -e
. ./functions.sh

random_file "$tmp/disk" 8M
cp "$tmp/disk" "$tmp/original"
start_disk --filter=delay file "$tmp/disk" delay-read=50ms cbw-shm="$shm" \
           cbw-target="$tmp/target" cbw-threads=8
cbwctl create "$shm" two --target="$tmp/two" >/dev/null
readers="a b c d e"
# Each reads two snapshots, with 32 requests of 256 KiB in flight, over and over
# again until told to end.
for r in $readers; do
    start_nbdkit $r "$plugin" "$shm"
    nbdsh -c - <<PY >"$tmp/reader-$r.log" 2>&1 &
import os
original = open ("$tmp/original", "rb").read ()
n = 256 * 1024
conns = []
for name in "snapshot", "two":
    h = nbd.NBD ()
    h.connect_uri ("nbd+unix:///%s?socket=$tmp/$r.sock" % name)
    conns.append (h)
rounds = 0
while rounds < 1 or not os.path.exists ("$tmp/continued"):
    flying = []
    for h in conns:
        for i in range (16):
            b = nbd.Buffer (n)
            flying.append ((h, i, b, h.aio_pread (b, i * n)))
    open ("$tmp/reading-$r", "w").close ()
    while flying:
        for h, i, b, c in list (flying):
            if h.aio_command_completed (c):
                assert b.to_bytearray () == original[i * n:(i + 1) * n], i
                flying.remove ((h, i, b, c))
        for h in conns:
            if h.aio_in_flight () > 0:
                h.poll (10)
    rounds += 1
PY
    eval "reader_$r=\$!"
done
reading () { [ -e "$tmp/reading-$1" ]; }
for r in $readers; do wait_for 30 reading $r || fail "reader $r"; done
slots () { cbwctl status "$shm" --json | json "$1" 2>/dev/null; }
# At a moment when all is theirs.
stop_all ()
{
    for r in $readers; do kill_server $r STOP; done
    slots "j['requests']['free'] < 8" && return
    for r in $readers; do kill_server $r CONT; done
    return 1
}
wait_for 20 stop_all || fail "they do not use all slots"

start_snap "$shm"
timeout 40 nbdcopy "$snap" null: || fail "another plugin does not get through"
view_is "$tmp/original"
timeout 10 "$cbwctl" create "$shm" three --target="$tmp/three" >/dev/null ||
    fail "create"
timeout 10 "$cbwctl" drop "$shm" three >/dev/null || fail "drop"
guest <<PY
import time
start = time.monotonic ()
h.pwrite (b"g" * 65536, 65536)
assert time.monotonic () - start < 3
PY
wait_for 20 slots "j['requests']['free'] >= 8" || fail "they keep the slots"
wait_for 20 slots "j['counters']['reaped'] > 0" || fail "none was taken back"

touch "$tmp/continued"
for r in $readers; do kill_server $r CONT; done
for r in $readers; do
    eval "wait \$reader_$r" ||
        { cat "$tmp/reader-$r.log" >&2; fail "reader $r"; }
done
view_is "$tmp/original"
