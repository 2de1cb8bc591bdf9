#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Zeroes and trims of gigabytes over a sparse disk copy only the data that
# there is, quickly, and the view still has it.

. ./functions.sh
set -e

G=$((1024 * 1024 * 1024))
truncate -s 5G "$tmp/disk"
random_file "$tmp/data" 300000
for offset in 12345 $((2 * G - 1000)) $((4 * G + 777777)); do
    dd if="$tmp/data" of="$tmp/disk" bs=1M seek=$offset oflag=seek_bytes \
       conv=notrunc status=none
done
used=$(du -k "$tmp/disk" | cut -f1)

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
nbdsh -c - <<PY
import time
G = $G
K = 1024
data = open ("$tmp/data", "rb").read ()
guest = nbd.NBD (); guest.connect_uri ("$disk")
view = nbd.NBD (); view.add_meta_context ("base:allocation")
view.connect_uri ("$snap")

def check ():
    for offset in 12345, 2 * G - 1000, 4 * G + 777777:
        assert view.pread (300000, offset) == data
        assert view.pread (512, offset - 512) == bytes (512)
        assert view.pread (512, offset + 300000) == bytes (512)
    assert view.pread (64 * K * K, 3 * G) == bytes (64 * K * K)

def fast (f, *args):
    start = time.monotonic ()
    f (*args)
    took = time.monotonic () - start
    assert took < 2, took

check ()
fast (guest.trim, 2 * G + 100001, 1000)         # holes and data
check ()
fast (guest.zero, 3 * G, 2 * G - 3000)
check ()
fast (guest.zero, 4 * G - 4 * K * K, 512)       # nearly the largest there is
fast (guest.trim, 4 * G - 4 * K * K, G)
check ()
fast (guest.zero, G, 4 * G)
for offset in 12345, 2 * G - 1000, 4 * G + 777777:
    assert guest.pread (300000, offset) == bytes (300000)
check ()

# The map shows the same: little data, the rest holes of zeroes.
data_bytes = 0
offset = 0
def extent (context, start, entries, err):
    global data_bytes, offset
    for length, flags in zip (entries[0::2], entries[1::2]):
        if flags == 0:
            data_bytes += length
        else:
            assert flags == 3
        offset += length
while offset < 5 * G:
    view.block_status (min (4 * G - 65536, 5 * G - offset), offset, extent)
assert 3 * 300000 <= data_bytes <= 3 * 300000 + 6 * 65536, data_bytes
PY
# The target too.
now=$(du -k "$tmp/target" | cut -f1)
[ "$now" -le $((used + 6 * 64)) ] || fail "$now KiB were copied, of $used"
