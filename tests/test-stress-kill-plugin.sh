#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Stress while the plugin is stopped, killed and started again: the guest
# notices nothing, and the filter gets all slots back.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

make_disk 16777999
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
start_stress readers=6

disturb ()
{
    random 3
    if [ $dice = 0 ]; then
        kill_server snap STOP
        nap; nap
        kill_server snap CONT
    else
        kill_server snap KILL
        start_snap "$shm"
    fi
}
stress_through disturb
