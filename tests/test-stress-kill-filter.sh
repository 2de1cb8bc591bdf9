#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress while the filter is killed and started again: the snapshot stays
# whole, readers ride over it, writers lose nothing that was answered.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

start_filter ()
{
    start_disk file "$tmp/disk.img" cbw-shm="$shm" \
               cbw-target="$tmp/target" cbw-cluster-size=4k
}

make_disk 16777999
start_filter
start_snap "$shm" timeout=60
start_stress

kill_some ()
{
    random 2
    [ $dice = 0 ] || nap
    kill_server disk KILL
    start_filter
    random 4
    if [ $dice = 0 ]; then
        kill_server snap KILL
        start_snap "$shm" timeout=60
    fi
}
stress_through kill_some
