#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress over the memory plugin, which is all holes at the start.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

size=16777999
sum=$(head -c $size /dev/zero | sha256sum | cut -d' ' -f1)
start_disk memory $size cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
run_stress blank=1
