#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# There can be 64 snapshots.  The 65th is refused, and nothing has changed;
# a hidden one counts; when one is gone there is room again.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm"
for i in $(seq 64); do
    cbwctl create "$shm" "s$i" >/dev/null
done
full ()
{
    cbwctl_fails 1 "the table of 64 snapshots is full; drop one first" \
                 create "$shm" too-many
    absent "$tmp/too-many.cow"
}
full
cbwctl check "$shm" >/dev/null
cbwctl status "$shm" --json | json "len (j['snapshots']) == 64"
guest <<PY
h.pwrite (b"x" * 100000, 100000)
PY
start_snap "$shm"
view_is "$tmp/original" "nbd+unix:///s1?socket=$tmp/snap.sock"
view_is "$tmp/original" "nbd+unix:///s64?socket=$tmp/snap.sock"
cbwctl map "$shm" s1 --json | json "[x['type'] for x in j] == [0, 1, 0]"

# In the middle: hidden, so its place is not free.
cbwctl drop "$shm" s32 >/dev/null
full
cbwctl drop "$shm" s1 >/dev/null
cbwctl create "$shm" one-more >/dev/null
full
# shellcheck disable=SC2046
cbwctl drop "$shm" $(seq -f 's%.0f' 2 31) $(seq -f 's%.0f' 33 64) \
       one-more >/dev/null
cbwctl status "$shm" --json | json "j['snapshots'] == []"
absent "$tmp"/*.cow
