#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Random sequences of everything there is, against a model that keeps a
# full copy of the disk for each snapshot.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
set -e

size=1500777
[ -n "$SANITIZERS" ] && steps=1500 || steps=5000
steps=${CBW_STEPS:-$steps}
truncate -s $size "$tmp/disk.img"
head -c 700000 /dev/urandom | dd of="$tmp/disk.img" conv=notrunc status=none
run_file disk --filter="$filter" file "$tmp/disk.img" cbw-shm="$shm" \
         cbw-cluster-size=4k cbw-commands=on
run_file snap "$plugin" "$shm" timeout=60
live model-driver size=$size steps="$steps"

# The same, with a server whose threads overtake each other.
rm "$shm"
preload=$PWD/.libs/kill-preload.so
printf '\0\0\0\0\310\0\0\0' >"$tmp/fault"
run_file disk --filter="$filter" file "$tmp/disk.img" cbw-shm="$shm" \
         cbw-cluster-size=4k cbw-commands=on
live model-driver size=$size steps=$(( steps / 5 ))
