#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Stress with a command as target, and old data in qcow2, while the filter
# is killed and started again.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy qemu-img qemu-nbd

make_disk 16777999
qemu-img create -q -f qcow2 "$tmp/old.qcow2" 16778240
start_filter ()
{
    start_disk file "$tmp/disk.img" cbw-shm="$shm" \
               cbw-target="[ qemu-nbd -f qcow2 $tmp/old.qcow2 ]"
}
start_filter
start_snap "$shm" timeout=60
start_stress
kill_filter ()
{
    kill_server disk KILL
    start_filter
}
stress_through kill_filter
