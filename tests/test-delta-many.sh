#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Deltas of nothing and of everything, of a disk that grows, from each of 250
# points, and of 1 % of a disk of 64 GiB: that is told quickly.

. ./functions.sh
set -e
. "$top_srcdir/tests/delta.sh"
requires qemu-img

# ---- 250 points: after point i cluster i is written ----

truncate -s $((300 * 65536)) "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
guest <<PY
import subprocess
def ctl (*args):
    subprocess.run (("$cbwctl",) + args, check=True, stdout=subprocess.DEVNULL)
for i in range (250):
    ctl ("checkpoint", "$shm", "p%d" % i)
    h.pwrite (b"x" * 65536, i * 65536)
ctl ("create", "$shm", "end")
PY
delta_is p249..end "0 249 1" "249 1 0" "250 50 1"
delta_is p1..end "0 1 1" "1 249 0" "250 50 1"
delta_is p0..end "0 250 0" "250 50 1"
delta_is end..end "0 300 1"
for i in $(seq 1 2 247); do echo p$i; done | xargs "$cbwctl" drop "$shm" >/dev/null
open_fails p1..end 'there is no snapshot or checkpoint "p1"'
delta_is p0..end "0 250 0" "250 50 1"
delta_is p2..end "0 2 1" "2 248 0" "250 50 1"
delta_is p248..end "0 248 1" "248 2 0" "250 50 1"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" 'export="p249..end"'

# ---- Everything, and the disk grows ----

cbwctl checkpoint "$shm" small >/dev/null
truncate -s $((310 * 65536 + 5)) "$tmp/disk"
cbwctl create "$shm" large >/dev/null
cp "$tmp/disk" "$tmp/is-large"
delta_is small..large "0 300 1" "300 10.0001 3"
delta_bytes small..large $((10 * 65536 + 5))
guest <<PY
h.pwrite (b"y" * h.get_size (), 0)
PY
view_is "$tmp/is-large" "$(export_of small..large)"
cbwctl checkpoint "$shm" odd >/dev/null
truncate -s $((312 * 65536)) "$tmp/disk"
cbwctl create "$shm" larger >/dev/null
cp "$tmp/disk" "$tmp/is-larger"
# odd's last cluster is in it: it had only a part.
delta_bytes odd..larger $((2 * 65536))
delta_bytes large..larger $((312 * 65536))
delta_bytes p249..larger $((312 * 65536))
view_is "$tmp/is-larger" "$(export_of odd..larger)"

# ---- Trims inside a delta are holes, of which nothing is copied ----

guest <<PY
for c in range (2, 302):
    h.trim (65536, c * 65536)
h.pwrite (b"z" * 65536, 5 * 65536)
PY
cbwctl create "$shm" trimmed >/dev/null
cp "$tmp/disk" "$tmp/is-trimmed"
delta_is larger..trimmed "0 2 1" "2 3 3" "5 1 0" "6 296 3" "302 10 1"
qemu-img convert -f raw -O qcow2 "$(export_of larger)" "$tmp/larger.qcow2"
qemu-img convert -O qcow2 -B "$tmp/larger.qcow2" -F qcow2 \
         "$(export_of larger..trimmed)" "$tmp/trimmed.qcow2"
overlay_is "$tmp/trimmed.qcow2" "$tmp/is-trimmed"
[ "$(stat -c %s "$tmp/trimmed.qcow2")" -le 600000 ] || fail "holes were copied"
stop_server snap
stop_server disk

# ---- A large sparse disk ----

shm=$tmp/large
truncate -s 64G "$tmp/sparse"
start_disk file "$tmp/sparse" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl checkpoint "$shm" mon >/dev/null
# 1 % of it: each hundredth cluster, of which every second is trimmed.
nbdsh -u "$disk" -c - <<PY
for c in range (0, 1 << 20, 100):
    if c % 200:
        h.pwrite (b"d" * 65536, c * 65536)
    else:
        h.trim (65536, c * 65536)
PY
cbwctl create "$shm" tue >/dev/null
for direct in auto off; do
    start_snap "$shm" direct=$direct
    nbdsh --base-allocation -u "$(export_of mon..tue)" -c - <<PY
import time
start = time.monotonic ()
size = h.get_size ()
types = {0: [], 1: [], 3: []}
offset = 0
def extent (context, where, entries, err):
    global offset
    for length, flags in zip (entries[0::2], entries[1::2]):
        types[flags].append ((offset, length))
        offset += length
while offset < size:
    h.block_status (min (size - offset, 4 * 1024 ** 3 - 65536), offset, extent)
took = time.monotonic () - start
for flags, first in ((0, 100), (3, 0)):
    assert types[flags] == [(c * 65536, 65536)
                            for c in range (first, 1 << 20, 200)], flags
assert offset == size
print ("$direct: mapped in %.2f s" % took)
assert took < 20, took

# One extent at a time, as qemu-img asks: not all of the rest is looked at for
# each.
start = time.monotonic ()
offset = 0
for i in range (500):
    h.block_status (min (size - offset, 2 * 1024 ** 3), offset, extent,
                    nbd.CMD_FLAG_REQ_ONE)
took = time.monotonic () - start
print ("$direct: 500 extents, each for itself, in %.2f s" % took)
assert took < 5, took
PY
    stop_server snap
done
