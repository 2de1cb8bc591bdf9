#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter is killed at every step of making and dropping snapshots and
# checkpoints, and of making backups and increments, and nothing is half made
# or half dropped when it is back.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
set -e

size=100777
random_file "$tmp/disk.img" $size
preload=$PWD/.libs/kill-preload.so
run_file disk --filter="$filter" file "$tmp/disk.img" cbw-shm="$shm" \
         cbw-cluster-size=4k
preload=
run_file snap "$plugin" "$shm" timeout=60
# Sanitizers make each of a thousand starts slow.
live faults-driver size=$size every="$([ -n "$SANITIZERS" ] && echo 5 || echo 1)"
