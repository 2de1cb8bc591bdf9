#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-access=: the areas in the file, rounded out to clusters, can be read,
# others not at all; only they are copied; guests do not notice.  Tools that
# look at extents first copy what is allowed.

. ./functions.sh
set -e
requires qemu-img nbdcopy

random_file "$tmp/disk" 4000001
cp "$tmp/disk" "$tmp/original"
cat >"$tmp/areas" <<'END'
# what may be read

  1M 0x10000   # cluster 16
2000000	1  # a byte of cluster 30
196608 64k
262144 1
3999999 2
END
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
           cbw-target="$tmp/target" \
           cbw-access="$tmp/areas"
start_snap "$shm"
look ()
{
    reader <<PY
import errno
CS, size = 65536, 4000001
allowed = {3, 4, 16, 30, size // CS}
old = open ("$tmp/original", "rb").read ()

def refused (count, offset):
    try:
        h.pread (count, offset)
        assert False, offset
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e

for c in range (size // CS + 1):
    start, end = c * CS, min (c * CS + CS, size)
    if c in allowed:
        assert h.pread (end - start, start) == old[start:end]
    else:
        for offset in start, end - 1:
            refused (1, offset)
assert h.pread (2 * CS, 3 * CS) == old[3 * CS:5 * CS]
refused (2, 3 * CS - 1)
refused (2, 5 * CS - 1)
refused (size, 0)

extents = []
def extent (context, offset, entries, error):
    for length, flags in zip (entries[::2], entries[1::2]):
        extents.append ((offset, length, flags))
        offset += length
offset = 0
while offset < size:
    h.block_status (size - offset, offset, extent)
    offset = extents[-1][0] + extents[-1][1]
for offset, length, flags in extents:
    inside = {c in allowed for c in
              range (offset // CS, (offset + length - 1) // CS + 1)}
    assert len (inside) == 1, extents
    assert flags == (0 if inside == {True} else nbd.STATE_HOLE), extents
PY
}
look
guest <<PY
h.pwrite (b"x" * 4000001, 0)
assert h.pread (4000001, 0) == b"x" * 4000001
PY
look
cbwctl status "$shm" --json | json "j['snapshots'][0]['copied-clusters'] == 5"
cbwctl map "$shm" snapshot --plain >"$tmp/map"
[ "$(grep -c inaccessible "$tmp/map")" -eq 4 ] || { cat "$tmp/map"; fail map; }
cbwctl map "$shm" snapshot >"$tmp/map"
expect_in "$tmp/map" "inaccessible"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }

# qemu-img fills in the rest from what there was before.
head -c 4000256 /dev/zero >"$tmp/base"
qemu-img convert -f raw -O qcow2 -B "$tmp/base" -F raw "$snap" "$tmp/out.qcow2"
qemu-img convert -f qcow2 -O raw "$tmp/out.qcow2" "$tmp/out"
"$PYTHON" - "$tmp" <<'PY'
import sys
old = open (sys.argv[1] + "/original", "rb").read ()
got = open (sys.argv[1] + "/out", "rb").read ()
CS, size = 65536, 4000001
for c in range (size // CS + 1):
    start, end = c * CS, min (c * CS + CS, size)
    assert got[start:end] == (old[start:end] if c in {3, 4, 16, 30, 61}
                              else bytes (end - start)), c
PY
# nbdcopy of it all is refused, rather than filling in anything.  One request at
# a time: nbdkit before 1.34 aborts if a client hangs up while it has more.
nbdcopy --synchronous "$snap" "$tmp/whole" 2>"$tmp/err" && fail "nbdcopy" || :

# It survives a restart, as it was then.
stop_server disk
echo "0 1M" >"$tmp/areas"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
look
