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
"$stress" run disk="$disk" snap="$snap" size="$size" seed="$seed" \
          reconnect=1 until="$tmp/stop" >"$tmp/stress.log" 2>&1 &
run=$!

while [ $kills -gt 0 ]; do
    nap
    kill_server disk KILL
    cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }
    start_filter
    kill -0 $run || fail "the stress ended: $(cat "$tmp/stress.log")"
    kills=$(( kills - 1 ))
done

touch "$tmp/stop"
wait $run || fail "during the stress: $(cat "$tmp/stress.log")"
cat "$tmp/stress.log"
check_copy
"$stress" idle "$shm"

unset CBW_TARGET CBW_TARGET_FAULT
export CBW_WRITEBACK=1M CBW_STRESS_SECONDS=${CBW_STRESS_SECONDS:-1}
bash "$top_srcdir/tests/test-stress-nbd-kill.sh" || [ $? -eq 77 ] ||
    fail "with an NBD target"
