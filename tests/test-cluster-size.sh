#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The default cluster size grows with the disk, so that bitmaps stay small;
# a copy is no larger than that around a small write.

. ./functions.sh
set -e

# cluster_size DISK-SIZE BYTES
cluster_size ()
{
    rm -f "$shm" "$tmp/disk"
    truncate -s "$1" "$tmp/disk"
    printf x | dd of="$tmp/disk" bs=1 seek=1M conv=notrunc status=none
    start_disk file "$tmp/disk" cbw-shm="$shm"
    cbwctl create "$shm" s >/dev/null
    guest <<PY
h.pwrite (b"y", 1024 * 1024 + 1)
PY
    cbwctl status "$shm" --json |
        json "j['cluster-size'] == $2 and
              j['snapshots'][0]['copied-bytes'] == $2" ||
        { cbwctl status "$shm" --json; fail "$1 is not in clusters of $2"; }
    cbwctl drop "$shm" s >/dev/null
    stop_server disk
}
cluster_size 2M 4096
cluster_size 64G 4096
cluster_size $(( (64 << 30) + 4096 )) 8192
cluster_size 256G 16384
cluster_size 512G 32768
cluster_size 1T 65536
cluster_size 7T 65536
