#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The stress tests with a write-back buffer; first before a target that is
# slower than the guest, so that it is full most of the time.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"
requires nbdcopy

target_faults "$tmp/target"
target_fault sleep 0.001
make_disk 20000000
start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-writeback=1M
start_snap "$shm"
run_stress
cbwctl check "$shm"

unset CBW_TARGET CBW_TARGET_FAULT
export CBW_STRESS_SECONDS=${CBW_STRESS_SECONDS:-1}
for other in file memory serialized nbd qcow2 kill-plugin; do
    CBW_WRITEBACK=1M bash "$top_srcdir/tests/test-stress-$other.sh" ||
        [ $? -eq 77 ] || fail "$other"
done
CBW_WRITEBACK=8M bash "$top_srcdir/tests/test-stress-file-1M.sh"
