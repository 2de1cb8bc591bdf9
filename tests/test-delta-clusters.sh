#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Deltas whose clusters are smaller or larger than those of qcow2: the overlay is
# right, compressed or not, and so is a full copy.

. ./functions.sh
set -e
. "$top_srcdir/tests/delta.sh"
requires qemu-img nbdcopy

for cluster_size in 4k 1M; do
    dir=$tmp/$cluster_size
    mkdir "$dir"
    random_file "$dir/disk" 8M
    truncate -s 12M "$dir/disk"
    start_disk file "$dir/disk" cbw-shm="$dir/shm" \
               cbw-cluster-size=$cluster_size
    start_snap "$dir/shm"
    qemu-img convert -f raw -O qcow2 "$dir/disk" "$dir/mon.qcow2"
    cbwctl checkpoint "$dir/shm" mon >/dev/null
    cat >"$dir/write.py" <<PY
import os, random
random.seed (int (os.environ["SEED"]))
for i in range (30):
    h.pwrite (os.urandom (700), random.randrange (12 * 1024 * 1024 - 700))
    h.trim (4096, random.randrange (3 * 1024) * 4096)
    h.zero (5000, random.randrange (12 * 1024 * 1024 - 5000))
PY
    SEED=1 guest <"$dir/write.py"
    cbwctl create "$dir/shm" tue >/dev/null
    cp "$dir/disk" "$dir/is-tue"
    # Old data is in the target then, for some of it.
    SEED=2 guest <"$dir/write.py"
    view_is "$dir/is-tue" "$(export_of mon..tue)"
    for c in "" -c; do
        qemu-img convert $c -O qcow2 -B "$dir/mon.qcow2" -F qcow2 \
                 "$(export_of mon..tue)" "$dir/tue$c.qcow2"
        overlay_is "$dir/tue$c.qcow2" "$dir/is-tue"
    done
    stop_server snap
    stop_server disk
done
