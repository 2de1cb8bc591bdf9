#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots taken with 16 writes in flight are points in time, and stay so
# while others come and go.  With CBW_STRESS_SECONDS, 200 of them at least.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
set -e

creates=60
[ -z "${CBW_STRESS_SECONDS:-}" ] || creates=200
run_file snap "$plugin" "$shm"

# As fast as it goes; then with writes that take long, so that many are on
# their way to the disk whenever a snapshot is taken.
for delay in "" "--filter=delay wdelay=3ms"; do
    rm -f "$shm" "$tmp/disk.img"
    : >"$tmp/disk.img"
    set -- ${delay% *}
    run_file disk --filter="$filter" "$@" file "$tmp/disk.img" \
             cbw-shm="$shm" cbw-cluster-size=16k ${delay#* }
    live gate-driver creates=$creates
done
