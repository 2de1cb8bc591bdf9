#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# QEMU's iotest "image-fleecing": the view is the old data before and after
# the guest overwrites clusters wholly, on their left or right half, and
# beside data, areas of zeroes too; the disk then has the new data, and the
# untouched halves of clusters that were partly overwritten.

. ./functions.sh
set -e

truncate -s 64M "$tmp/disk"
cat >"$tmp/common.py" <<'PY'
K = 1024
M = 1024 * K

# (byte, offset, length)
patterns = [
    (0x5d, 0, 64 * K),
    (0xd5, 1 * M, 64 * K),
    (0xdc, 32 * M, 64 * K),
    (0xcd, 64 * M - 64 * K, 64 * K),
]
overwrite = [
    (0xab, 0, 64 * K),                  # the whole cluster
    (0xad, 1 * M - 32 * K, 64 * K),     # left: half zeroes, half data
    (0x1d, 32 * M + 32 * K, 64 * K),    # right: half data, half zeroes
    (0xea, 64 * M - 128 * K, 64 * K),   # beside data: zeroes only
]
zeroes = [
    (0, 64 * K, 32 * K),                # after a pattern, not overwritten
    (0, 1 * M - 64 * K, 64 * K),        # partly overwritten
    (0, 32 * M + 64 * K, 64 * K),
    (0, 64 * M - 128 * K, 64 * K),      # wholly overwritten
    (0, 16 * M, 1 * M),                 # nothing near
]
remainder = [
    (0xd5, 1 * M + 32 * K, 32 * K),     # right end of "left"
    (0xdc, 32 * M, 32 * K),             # left end of "right"
    (0xcd, 64 * M - 64 * K, 64 * K),    # the neighbour
]
others = [
    (0, 1 * M - 64 * K, 32 * K),
    (0, 32 * M + 96 * K, 32 * K),
]

def put (h, areas):
    for byte, offset, length in areas:
        h.pwrite (bytes ([byte]) * length, offset)

def check (h, areas):
    for byte, offset, length in areas:
        assert h.pread (length, offset) == bytes ([byte]) * length, \
            "%#x at %#x" % (byte, offset)
PY
common=$(cat "$tmp/common.py")

# The patterns are there before there is a snapshot.
start_disk file "$tmp/disk" cbw-shm="$shm"
guest <<PY
$common
put (h, patterns)
PY
stop_server disk
cp "$tmp/disk" "$tmp/original"

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"

nbdsh -c - <<PY
$common
guest = nbd.NBD (); guest.connect_uri ("$disk")
view = nbd.NBD (); view.connect_uri ("$snap")
assert view.get_size () == 64 * M
assert view.is_read_only ()

check (view, patterns + zeroes)
put (guest, overwrite)
check (view, patterns + zeroes)
check (guest, overwrite + remainder + others)

# Once more over the same: what was preserved stays.
put (guest, [(byte ^ 0xff, offset, length)
             for byte, offset, length in overwrite])
put (guest, overwrite)
check (view, patterns + zeroes)
PY

view_is "$tmp/original"
stop_server snap
stop_server disk

# The disk itself, with no server: new data.
start_nbdkit plain file "$tmp/disk"
nbdsh -u "nbd+unix:///?socket=$tmp/plain.sock" -c - <<PY
$common
check (h, overwrite + remainder + others)
PY
