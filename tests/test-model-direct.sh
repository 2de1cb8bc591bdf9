#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The model test, with direct reads that take long at each of their steps:
# snapshots come, go, break and are discarded in the middle of them, entries
# and targets are used again, and servers are killed.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
set -e

size=1500777
truncate -s $size "$tmp/disk.img"
head -c 700000 /dev/urandom | dd of="$tmp/disk.img" conv=notrunc status=none
run_file disk --filter="$filter" file "$tmp/disk.img" cbw-shm="$shm" \
         cbw-cluster-size=4k cbw-commands=on
export CBW_DIRECT_HOLD=$tmp/hold
echo delay >"$tmp/hold"
preload=$top_builddir/tests/.libs/direct-preload.so
run_file snap "$plugin" "$shm" timeout=60 direct=auto
live model-driver size=$size steps=${CBW_STEPS:-1500}
[ "$(segment direct "$shm")" -gt 100 ] || fail "little was read directly"
