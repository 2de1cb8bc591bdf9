#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress with large clusters; the disk's size is odd.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 30000001
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-cluster-size=1M
start_snap "$shm"
run_stress
