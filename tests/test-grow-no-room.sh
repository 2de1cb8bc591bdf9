#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The disk grows beyond what the segment's bitmaps have room for: snapshots
# and backups are refused, none is short, and guests are served.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/is-small"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=4k
cbwctl create "$shm" small >/dev/null
# A page of bitmap has room for 32768 clusters.
truncate -s $(( 32768 * 4096 + 1 )) "$tmp/disk"
text="was made for a disk of 1048576 bytes, and it has grown to 134217729"
for round in 1 2; do
    cbwctl_fails 1 "$text" create "$shm" no --target="$tmp/no"
    cbwctl_fails 1 "$text" backup "$shm" no --to="$tmp/no"
    absent "$tmp/no"
    guest <<PY
h.pwrite (b"g" * 100000, h.get_size () - 100000)
h.pwrite (b"g" * 100000, 1000000)
PY
done
start_snap "$shm"
view_is "$tmp/is-small"

