#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# One request as large as they come: a write of 64 MiB, unaligned, which
# copies all of that, and reads of 64 MiB from the view; with small and
# large clusters.

. ./functions.sh
set -e

random_file "$tmp/part" 8M
for i in 1 2 3 4 5 6 7 8 9; do echo $i; cat "$tmp/part"; done >"$tmp/original"

for cluster in 4k 64k 4M; do
    cp "$tmp/original" "$tmp/disk"
    rm -f "$shm" "$tmp/target"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
               cbw-cluster-size=$cluster
    start_snap "$shm"
    nbdsh -c - <<PY
guest = nbd.NBD (); guest.connect_uri ("$disk")
view = nbd.NBD (); view.connect_uri ("$snap")
for h in guest, view:           # newer ones check it themselves
    h.set_strict_mode (0)
old = open ("$tmp/original", "rb").read ()
n = 64 * 1024 * 1024
data = old[:n][::-1]
assert view.pread (n, 1234567) == old[1234567:1234567 + n]
guest.pwrite (data, 1234567)
assert guest.pread (n, 1234567) == data
assert view.pread (n, 1234567) == old[1234567:1234567 + n]
assert view.pread (n, len (old) - n) == old[len (old) - n:]
assert view.pread (n, 0) == old[:n]
PY
    stop_server snap
    stop_server disk
done
