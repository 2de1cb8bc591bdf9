#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Stress with a write-back buffer, while the filter is killed and started
# again, with that in whatever state.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

target_faults "$tmp/target"
target_fault sleep 0.002
start_filter ()
{
    start_disk file "$tmp/disk.img" cbw-shm="$shm" \
               cbw-target="$tmp/target" cbw-writeback=2M
}

make_disk 16777999
start_filter
start_snap "$shm" timeout=60
start_stress

kill_filter ()
{
    kill_server disk KILL
    cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }
    start_filter
}
stress_through kill_filter

unset CBW_TARGET CBW_TARGET_FAULT
export CBW_WRITEBACK=1M CBW_STRESS_SECONDS=${CBW_STRESS_SECONDS:-1}
bash "$top_srcdir/tests/test-stress-nbd-kill.sh" || [ $? -eq 77 ] ||
    fail "with an NBD target"
