#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress over a plugin that handles one request at a time.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 1000001
export img="$tmp/disk.img"
start_disk eval \
    get_size='stat -c %s "$img"' \
    pread='dd if="$img" skip=$4 count=$3 iflag=skip_bytes,count_bytes \
              bs=1M status=none' \
    pwrite='dd of="$img" seek=$4 oflag=seek_bytes conv=notrunc bs=1M \
               iflag=fullblock status=none' \
    can_write='exit 0' \
    can_zero='exit 0' \
    zero='head -c $3 /dev/zero |
          dd of="$img" seek=$4 oflag=seek_bytes conv=notrunc bs=1M \
             iflag=fullblock status=none' \
    cbw-shm="$shm" cbw-target="$tmp/target" cbw-cluster-size=4k
start_snap "$shm"
run_stress writers=2 readers=2 max=100000
