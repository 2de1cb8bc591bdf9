#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# As test-unchanged-fails, for direct reads: a plugin that reads the disk in
# the middle of a torn write notices.

. ./functions.sh
set -e

random_file "$tmp/disk" 4000000
preload=$top_builddir/tests/.libs/target-fault-preload.so
export CBW_TARGET_FAULT=$tmp/disk.torn CBW_TARGET=$tmp/disk
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=16k
preload=$top_builddir/tests/.libs/direct-preload.so
export CBW_DIRECT_HOLD=$tmp/hold
echo delay >"$tmp/hold"
start_snap "$shm" direct=auto
preload=
. "$top_srcdir/tests/unchanged-fails.sh"
[ "$(segment direct "$shm")" -gt 100 ] || fail "little was read directly"
