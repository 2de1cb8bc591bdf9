#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A file that is no segment, or a truncated one, or one of another version,
# is refused by filter and plugin, with the reason, and not touched.
# Nothing hangs.  An empty file and one whose making was interrupted are
# made into a segment.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"

# refuse FILE TEXT [PLUGINTEXT]
refuse ()
{
    local before after
    before=$(stat -c '%i %s %a %F' "$1")
    [ ! -f "$1" ] || cp --sparse=always "$1" "$tmp/copy"
    refused --filter="$filter" file "$tmp/disk" \
            cbw-shm="$1" cbw-target="$tmp/new"
    expect_in "$tmp/refused.log" "$1: $2"
    refused "$plugin" "$1" wait=0
    expect_in "$tmp/refused.log" "$1: ${3:-$2}"
    after=$(stat -c '%i %s %a %F' "$1")
    [ "$before" = "$after" ] || fail "$1 was touched: $before; $after"
    [ ! -f "$1" ] || same "$1" "$tmp/copy"
    absent "$tmp/new"
}

# -- Foreign
no="is not a segment of nbdkit-cbw"
random_file "$tmp/random" 300000
refuse "$tmp/random" "$no"
truncate -s 64M "$tmp/zeroes"
refuse "$tmp/zeroes" "$no"
yes "a text" | head -c 10000 >"$tmp/text"
refuse "$tmp/text" "$no"
echo "short" >"$tmp/short"
refuse "$tmp/short" "$no"
printf 'N' >"$tmp/byte"
refuse "$tmp/byte" "$no"
printf 'NBKDCBW1' >"$tmp/magic"
refuse "$tmp/magic" "$no"
refuse "$tmp/disk" "$no"
mkdir "$tmp/dir"
refuse "$tmp/dir" "cannot open the segment: Is a directory"
mkfifo "$tmp/fifo"
refuse "$tmp/fifo" "a segment must be a regular file"
refuse /dev/null "a segment must be a regular file"

# -- A good one, to be damaged
start_disk file "$tmp/disk" cbw-shm="$tmp/good" cbw-target="$tmp/target"
stop_server disk
mv "$tmp/target" "$tmp/aside"
full=$(stat -c %s "$tmp/good")
bitmaps=$(segment get "$tmp/good" bitmaps_offset)

for size in 1 8 100 639 640 4095; do
    cp "$tmp/good" "$tmp/bad"
    truncate -s $size "$tmp/bad"
    refuse "$tmp/bad" "is"      # not a segment, or truncated
done
for size in 4096 8192 $((bitmaps / 2)) $((bitmaps - 1)); do
    cp "$tmp/good" "$tmp/bad"
    truncate -s $size "$tmp/bad"
    refuse "$tmp/bad" "is truncated: it has $size bytes, and needs $bitmaps"
done
# Of the bitmaps the plugin knows nothing: but there is no server.
for size in $bitmaps $((full - 1)); do
    cp "$tmp/good" "$tmp/bad"
    truncate -s $size "$tmp/bad"
    refuse "$tmp/bad" "is corrupt: record" "no server has this segment"
done

# -- Another version
for edit in "version 1" "version 5" "struct_sizes 0x06010221"; do
    cp "$tmp/good" "$tmp/bad"
    segment set "$tmp/bad" $edit
    refuse "$tmp/bad" "is a segment of another version"
done

for version in "2, which has no room" "3, which has no directory"; do
    cp "$tmp/good" "$tmp/bad"
    segment set "$tmp/bad" version "${version%%,*}"
    refuse "$tmp/bad" "is a segment of version $version"
done

# -- A feature that must be known; also one that need not, which does not help
cp "$tmp/good" "$tmp/bad"
segment set "$tmp/bad" compat 3
segment set "$tmp/bad" incompat 0x20
refuse "$tmp/bad" \
       "is a segment with features that this program does not know (0000000000000020)"

# -- Nonsense with a right checksum
for edit in "cluster_size 0" "cluster_size 3000" "cluster_size 2048" \
            "cluster_size 0x800000" "disk_size 0x8000000000000000" \
            "disk_size 0xffffffffffffffff" "disk_size 0x7ffffffffff00000" \
            "nr_clients 65" "nr_slots 0" "nr_snapshots 4000000000" \
            "slot_buffer_size 0x7fffffff" "doorbell_offset 0" \
            "slots_offset 0xfffffffffffff000" "snapshots_offset 4096" \
            "bitmaps_offset 0" "bitmap_size 0" "bitmap_size 0xfffffffffffff000" \
            "nr_cells 1" "nr_cells 0xffffffff" "cells_offset 4096" \
            "nr_inflight 1" "inflight_offset 4096" "nr_bitmaps 0" \
            "directory_offset 4096" "nr_points 1000" "points_offset 0"
do
    cp "$tmp/good" "$tmp/bad"
    segment set "$tmp/bad" $edit
    segment resum "$tmp/bad"
    refuse "$tmp/bad" "is "     # corrupt, or truncated
done
for edit in "entry.size 0x100000000" "entry.size 0xffffffffffffffff" \
            "entry.target_kind 77"; do
    cp "$tmp/good" "$tmp/bad"
    segment set "$tmp/bad" $edit
    segment resum-entry "$tmp/bad"
    refuse "$tmp/bad" "is corrupt: entry 0" "no server has this segment"
done
cp "$tmp/good" "$tmp/bad"
segment set "$tmp/bad" entry.state 5
refuse "$tmp/bad" "is corrupt: entry 0" "no server has this segment"

# -- Empty: fine, if nobody else may open it
: >"$tmp/empty"
chmod 600 "$tmp/empty"
refused "$plugin" "$tmp/empty" wait=0
expect_in "$tmp/refused.log" "$tmp/empty: its server has not finished making it"
[ ! -s "$tmp/empty" ] || fail "the plugin wrote to it"

# use FILE: it is made into a segment with other clusters than the good one
use ()
{
    rm -f "$tmp/new"
    start_disk file "$tmp/disk" cbw-shm="$1" cbw-target="$tmp/new" \
               cbw-cluster-size=4k
    start_snap "$1"
    guest <<PY
h.pwrite (b"x" * 100, 5000)
h.zero (100, 5000)
PY
    view_is "$tmp/disk"
    stop_server snap
    stop_server disk
    [ "$(segment get "$1" cluster_size)" = 4096 ] || fail "was not made anew"
}
use "$tmp/empty"

# -- Interrupted in the making, early and late
for size in 640 4096 100000 $full; do
    cp "$tmp/good" "$tmp/unfinished"
    truncate -s "$size" "$tmp/unfinished"
    segment set "$tmp/unfinished" state 0
    segment set "$tmp/unfinished" generation 0
    refused "$plugin" "$tmp/unfinished" wait=0
    expect_in "$tmp/refused.log" "its server has not finished making it"
    use "$tmp/unfinished"
done

# -- After all this the good one is good.
mv "$tmp/aside" "$tmp/target"
start_disk file "$tmp/disk" cbw-shm="$tmp/good" cbw-target="$tmp/target"
start_snap "$tmp/good"
view_is "$tmp/disk"
