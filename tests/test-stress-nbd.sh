#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Stress with an NBD server as target.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 16777999
start_nbdkit target memory 17M
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-cluster-size=4k \
           cbw-target="nbd+unix:///?socket=$tmp/target.sock"
start_snap "$shm"
run_stress
