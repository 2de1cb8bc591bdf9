#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress over a qcow2 disk.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy qemu-img qemu-nbd

make_disk 15000064              # a multiple of 512, not of 1024
qemu-img convert -f raw -O qcow2 "$tmp/disk.img" "$tmp/disk.qcow2"
start_disk nbd command=qemu-nbd arg=-f arg=qcow2 arg=--discard=unmap \
           arg="$tmp/disk.qcow2" \
           cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
run_stress
stop_server snap
stop_server disk
qemu-img check "$tmp/disk.qcow2"
