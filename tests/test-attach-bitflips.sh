#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# One bit flipped in what a segment's checksums cover (the fixed part of
# the header, a snapshot's entry) is refused by the filter, and in the
# header by the plugin too; nothing crashes, and the file is not changed.
# A flipped state does not make a segment with a snapshot look unfinished.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
stop_server disk
# As a server leaves it that is killed while it runs a request: a server that
# refuses the segment does not touch the request list either.
segment set "$shm" slot0.state $(( 3 | 0x800043 << 8 ))
segment set "$shm" idle_threads 7
cp "$shm" "$tmp/good"

# check: the filter refuses $shm, with $1
check ()
{
    cp "$shm" "$tmp/copy"
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm"
    expect_in "$tmp/refused.log" "$shm: is $1"
    cmp "$shm" "$tmp/copy" || fail "it was changed: $2"
}

# A sample of the bytes, another one each time; the unit tests have all.
# Fewer under a checker, where servers start slowly.
step=4
[ "$SANITIZERS" = no ] && [ -z "${CBW_VALGRIND:-}" ] || step=19
first=$(( RANDOM % step ))
echo "first byte: $first"

# magic, version, struct sizes, geometry and its sum: bytes 0 to 159
for (( i = first; i < 160; i += step )); do
    segment flip "$shm" $i $((i * 5 % 8))
    check "" "header, byte $i"
    segment flip "$shm" $i $((i * 5 % 8))
done
for (( i = first; i < 160; i += 3 * step )); do
    segment flip "$shm" $i $((i * 3 % 8))
    refused "$plugin" "$shm" wait=0
    expect_in "$tmp/refused.log" "$shm: is "
    segment flip "$shm" $i $((i * 3 % 8))
done
cmp "$shm" "$tmp/good"

# The entry: id, size, created, uuid, name, kind, device, path, sum
for (( i = first; i < 1160; i += i < 140 ? 3 * step : 37 * step )); do
    segment flip-entry "$shm" $i $((i % 8))
    check "corrupt: entry 0 of its snapshot table is damaged" "entry, byte $i"
    segment flip-entry "$shm" $i $((i % 8))
done
cmp "$shm" "$tmp/good"

# The state of the server is no part of that.  As it stands it says that
# the server ended in order; with one bit less, that there was none yet.
[ "$(segment get "$shm" state)" = 2 ] || fail "state"
segment set "$shm" state 0
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "live"
