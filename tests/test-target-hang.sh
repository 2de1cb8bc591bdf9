#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The NBD server of one snapshot's target hangs, and that snapshot is read with
# more requests than there are service threads, and discarded.  Other
# snapshots are read within a moment, through the same plugin and another;
# guests and control go on.  More of that snapshot fails at once when too much
# of it hangs.  When the server is back all of it is read right.
set -e
. ./functions.sh

random_file "$tmp/disk" 16M
start_nbdkit target memory 16M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-threads=4 cbw-cluster-size=64k
cp "$tmp/disk" "$tmp/old"
cbwctl create "$shm" hangs --target="nbd+unix:///?socket=$tmp/target.sock" \
       >/dev/null
guest <<PY
h.pwrite (b"1" * (16 << 20), 0)
PY
cp "$tmp/disk" "$tmp/newer"
cbwctl create "$shm" good --target="$tmp/good" >/dev/null
start_snap "$shm" discard=true
start_nbdkit second "$plugin" "$shm" discard=true
start_nbdkit third "$plugin" "$shm"
uri () { echo "nbd+unix:///$2?socket=$tmp/$1.sock"; }
kill_server target STOP

# hang NAME DISCARDS: 12 requests that are not answered: reads of 256 KiB, and
# so many discards.  When they are answered the reads must be right.
hang ()
{
    nbdsh -u "$(uri "$1" hangs)" -c - <<PY
old = open ("$tmp/old", "rb").read ()
n = 256 * 1024
buffers = [nbd.Buffer (n) for i in range (12 - $2)]
cookies = [h.aio_pread (b, i * n) for i, b in enumerate (buffers)]
cookies += [h.aio_trim (1 << 20, (14 + i) << 20) for i in range ($2)]
while cookies:
    h.poll (-1)
    cookies = [c for c in cookies if not h.aio_command_completed (c)]
for i, b in enumerate (buffers):
    assert b.to_bytearray () == old[i * n:(i + 1) * n], i
PY
}
slots () { cbwctl status "$shm" --json | json "j['requests']$1" 2>/dev/null; }

hang snap 1 & first=$!
# That is a client's share for one snapshot.
wait_for 20 slots "['running'] == 12" || fail "12 requests do not run"

others ()
{
    for s in snap third; do
        nbdsh -u "$(uri $s good)" -c - <<PY
import time
newer = open ("$tmp/newer", "rb").read ()
start = time.monotonic ()
for offset in 0, 5 << 20, 15 << 20:
    assert h.pread (300000, offset) == newer[offset:offset + 300000]
took = time.monotonic () - start
print ("reading through $s took %.2f s" % took)
assert took < 3, took
PY
    done
    guest <<PY
import time
start = time.monotonic ()
h.pwrite (b"$1" * 500000, $1 << 20)
assert time.monotonic () - start < 3
PY
    timeout 10 "$cbwctl" create "$shm" "extra$1" --target="$tmp/extra$1" \
            >/dev/null || fail "create"
}
others 2

# Another plugin reads it too: now there is too much of it.
hang second 0 & second=$!
wait_for 20 slots "['running'] == 24" || fail "24 reads do not run"
hung ()
{
    grep -q "snapshot \"hangs\": 24 reads have waited" "$tmp/disk.log"
}
wait_for 20 hung || fail "it is not said"
nbdsh -u "$(uri third hangs)" -c - <<PY
import errno, time
start = time.monotonic ()
try:
    h.pread (4096, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.EIO, e
assert time.monotonic () - start < 3
PY
others 3

kill_server target CONT
wait $first || fail "the first reader"
wait $second || fail "the second reader"
view_is "$tmp/newer" "$(uri third good)"
nbdsh -u "$(uri third hangs)" -c - <<PY
old = open ("$tmp/old", "rb").read ()
assert h.pread (14 << 20, 0) == old[:14 << 20]
assert h.pread (1 << 20, 15 << 20) == old[15 << 20:]
try:
    h.pread (1 << 20, 14 << 20)
    assert False, "it is discarded"
except nbd.Error as e:
    assert e.errnum == 1, e
PY
