#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The disk has grown since the segment was made, so little that the bitmaps
# have room for it: a snapshot of the larger disk survives a restart.  The
# next filter called the segment corrupt.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl create "$shm" small >/dev/null
stop_server disk
cp "$tmp/disk" "$tmp/is-small"
truncate -s 3M "$tmp/disk"
cp "$tmp/disk" "$tmp/is-large"

start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl create "$shm" large >/dev/null
guest <<PY
h.pwrite (b"x" * 1024 * 1024 * 2, 512 * 1024)
PY
for round in 1 2; do
    start_snap "$shm"
    view_is "$tmp/is-small" "nbd+unix:///small?socket=$tmp/snap.sock"
    view_is "$tmp/is-large" "nbd+unix:///large?socket=$tmp/snap.sock"
    stop_server snap
    cbwctl check "$shm" >/dev/null
    cbwctl map "$shm" large --json |
        json "sum (x['length'] for x in j) == 3 << 20"
    stop_server disk
    start_disk file "$tmp/disk" cbw-shm="$shm"
done
