#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress over a file, with clusters of the default size; the disk's size is odd.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 20000000
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-cluster-size=64k
start_snap "$shm"
run_stress
