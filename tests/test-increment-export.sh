#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup --since finds out that an export holds the image of an older
# point, or another small image.

. ./functions.sh
set -e
requires qemu-img
requires qemu-nbd

# serve SIZE
serve ()
{
    random_file "$tmp/disk" "$1"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
               cbw-commands=on
    qemu-img create -q -f qcow2 "$tmp/image.qcow2" "$1"
    cbwctl backup "$shm" a --to="$image" >/dev/null
}
image="[ qemu-nbd -f qcow2 $tmp/image.qcow2 ]"

# not_taken SINCE NAME: it is said not to be the image of NAME, and not changed.
not_taken ()
{
    cp "$tmp/image.qcow2" "$tmp/was.qcow2"
    cbwctl_fails 1 "does not hold the image of \"$2\"" \
                 backup "$shm" x --since="$1" --to="$image"
    qemu-img compare -q "$tmp/image.qcow2" "$tmp/was.qcow2"
}

is_whole () { qemu-img compare -q -f raw -F qcow2 "$tmp/disk" "$tmp/image.qcow2"; }

# ---- A cluster has changed, and points were made since: two of them between
# which nothing changed.
serve $((8 << 20))
guest <<<"h.pwrite (b'x' * 5000, 77 * 65536)"
for point in b c d; do
    cbwctl checkpoint "$shm" $point
done
not_taken auto d
not_taken c c
# What changes again does not tell one from the other, and is copied.
guest <<<"h.pwrite (b'y' * 5000, 77 * 65536)"
cbwctl backup "$shm" e --since=auto --to="$image" --json >"$tmp/json"
json 'j["since"] == "d" and j["copied-bytes"] == 65536' <"$tmp/json"
is_whole
stop_server disk
rm "$shm" "$tmp/image.qcow2"

# ---- A small disk, and an image that differs in one cluster
serve $((2 << 20))
qemu-io -f qcow2 -c "write -q -P 7 $((21 * 65536)) 1000" "$tmp/image.qcow2"
not_taken a a
guest <<<"h.pwrite (b'z' * 5000, 21 * 65536)"
cbwctl backup "$shm" f --since=a --to="$image" >/dev/null
is_whole
