#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of a qcow2 disk, which qemu-nbd serves to nbdkit-nbd-plugin
# over the one connection that is shared.

. ./functions.sh
set -e
requires qemu-img qemu-nbd

random_file "$tmp/original" 1500000
truncate -s 3M "$tmp/original"
qemu-img convert -f raw -O qcow2 "$tmp/original" "$tmp/disk.qcow2"
start_disk nbd command=qemu-nbd arg=-f arg=qcow2 arg="$tmp/disk.qcow2" \
           cbw-shm="$shm" cbw-target="$tmp/target"
scenario "$tmp/original"
stop_server disk
qemu-img check -q -f qcow2 "$tmp/disk.qcow2"
