#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Internal snapshots in all kinds of qcow2 images: versions, cluster sizes,
# subclusters, compressed.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

image=$tmp/disk.qcow2
random_file "$tmp/raw" 1500000
truncate -s 3000320 "$tmp/raw"          # not a multiple of a cluster

# readable [CONVERT-OPTIONS...]: an image made so
readable ()
{
    qemu-img convert -f raw -O qcow2 "$@" "$tmp/raw" "$image"
    qemu-img snapshot -c snap "$image"
    qemu-io -f qcow2 -c "write -q -P 7 0 3000320" "$image"
    start_snap qcow2="$image"
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" "export-size: 3000320"
    view_is "$tmp/raw"
    stop_server snap
}

readable -o compat=0.10
readable -o cluster_size=512
readable -o cluster_size=2M
readable -o extended_l2=on
readable -c
readable -o lazy_refcounts=on,refcount_bits=64
