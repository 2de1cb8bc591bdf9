#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Deltas and discards: with discard=read the overlay is right, and what was read
# of the delta is discarded, and nothing else; one client reads a snapshot, by
# whatever name.  Areas outside the access file, or discarded with trims, are
# refused, and are holes of unknown content.

. ./functions.sh
set -e
. "$top_srcdir/tests/delta.sh"
requires qemu-img

random_file "$tmp/disk" 8M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
qemu-img convert -f raw -O qcow2 "$tmp/disk" "$tmp/mon.qcow2"
cbwctl checkpoint "$shm" mon >/dev/null
guest <<PY
import os
h.pwrite (os.urandom (32 * 65536), 16 * 65536)          # 2 MiB
h.pwrite (os.urandom (65536), 100 * 65536)
h.trim (65536, 120 * 65536)
PY
cbwctl create "$shm" tue >/dev/null
cp "$tmp/disk" "$tmp/is-tue"

held ()
{
    cbwctl status "$shm" --json | "$PYTHON" -c '
import json, sys
print (*(s["copied-clusters"] for s in json.load (sys.stdin)["snapshots"]))'
}
inaccessible ()
{
    cbwctl map "$shm" "$1" --plain | grep inaccessible >"$tmp/inaccessible" || :
}

# ---- discard=read ----

for direct in auto off; do
    start_snap "$shm" discard=read direct=$direct
    qemu-img convert -O qcow2 -B "$tmp/mon.qcow2" -F qcow2 \
             "$(export_of mon..tue)" "$tmp/tue.qcow2"
    overlay_is "$tmp/tue.qcow2" "$tmp/is-tue"
    overlay_has "$tmp/tue.qcow2" $(seq 16 47) 100 120
    stop_server snap

    # The data of the delta was read and is discarded, the rest is not: the
    # hole of cluster 120 was not read.
    start_snap "$shm" direct=$direct
    nbdsh -u "$(export_of tue)" -c - <<PY
import errno
old = open ("$tmp/is-tue", "rb").read ()
for c in range (128):
    try:
        got = h.pread (65536, c * 65536)
        assert got == old[c * 65536:(c + 1) * 65536], c
        assert c not in range (16, 48) and c != 100, c
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
        assert c in range (16, 48) or c == 100, c
PY
    # In the delta it looks like what has not changed: it is gone.
    delta_is mon..tue "0 120 1" "120 1 3" "121 7 1"
    stop_server snap

    # Guests' writes there copy nothing.
    guest <<PY
h.pwrite (b"x" * 65536, 17 * 65536)
h.pwrite (b"x" * 65536, 100 * 65536)
PY
    [ "$(held)" = 0 ] || fail "$(held) clusters were copied"

    # The same state, for the second round.
    cbwctl drop "$shm" tue >/dev/null
    dd if="$tmp/is-tue" bs=64k skip=16 seek=16 count=32 conv=notrunc \
       of="$tmp/disk" status=none
    dd if="$tmp/is-tue" bs=64k skip=100 seek=100 count=1 conv=notrunc \
       of="$tmp/disk" status=none
    cbwctl create "$shm" tue >/dev/null
done

# ---- One client of a snapshot ----

cbwctl create "$shm" wed >/dev/null
start_snap "$shm" discard=read
nbdsh -u "$(export_of mon..tue)" -c - <<PY
def taken (name):
    other = nbd.NBD ()
    try:
        other.connect_uri ("nbd+unix:///" + name + "?socket=$tmp/snap.sock")
        return False
    except nbd.Error:
        return True
assert not h.can_multi_conn ()
assert taken ("tue")
assert taken ("mon..tue")
assert not taken ("wed")
assert not taken ("tue..wed")
assert h.pread (65536, 0) == open ("$tmp/is-tue", "rb").read (65536)
PY
expect_in "$tmp/snap.log" \
          'snapshot "tue" is being read by another client with discard=read'
# It is free again, and what was read outside the delta is gone, too.
free () { nbdinfo --size "$(export_of tue)" >/dev/null 2>&1; }
wait_for 10 free || fail "tue is not free"
stop_server snap
inaccessible tue
[ -s "$tmp/inaccessible" ] || fail "what was read was not discarded"

# ---- Trims ----

start_snap "$shm" discard=true
nbdsh -u "$(export_of mon..wed)" -c - <<PY
import errno
def denied (f, *args):
    try:
        f (*args)
        assert False, args
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
assert h.can_trim ()
h.trim (2 * 65536, 20 * 65536)          # in the delta
h.trim (65536, 5 * 65536)               # not in it
denied (h.pread, 1, 20 * 65536)
denied (h.pread, 1, 5 * 65536)
denied (h.pwrite, b"x", 0)
h.pread (65536, 22 * 65536)
PY
delta_is mon..wed "0 16 1" "16 4 0" "20 2 1" "22 26 0" "48 52 1" "100 1 0" \
         "101 19 1" "120 1 3" "121 7 1"
stop_server snap

# ---- An access file ----

printf '%s\n' "$((16 * 65536)) $((8 * 65536))" "0 1" >"$tmp/areas"
cbwctl create "$shm" thu --access="$tmp/areas" >/dev/null
cp "$tmp/disk" "$tmp/is-thu"
for direct in auto off; do
    start_snap "$shm" direct=$direct
    delta_is mon..thu "0 16 1" "16 8 0" "24 104 1"
    nbdsh -u "$(export_of mon..thu)" -c - <<PY
import errno
old = open ("$tmp/is-thu", "rb").read ()
for c in range (128):
    try:
        got = h.pread (65536, c * 65536)
        assert got == old[c * 65536:(c + 1) * 65536], c
        assert c in range (16, 24) or c == 0, c
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
        assert c not in range (16, 24) and c != 0, c
PY
    stop_server snap
done
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }
