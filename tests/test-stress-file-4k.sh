#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress with the smallest clusters; the disk's size is odd.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 9437699
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-cluster-size=4k
start_snap "$shm"
run_stress
