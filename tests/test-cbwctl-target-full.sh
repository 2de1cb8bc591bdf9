#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create where there is no room: for the target, whose snapshot would
# break with the first write, or for the bitmaps.  Refused with the reason,
# nothing has changed, and it works as soon as there is room.

. ./functions.sh
set -e

small_tmpfs 17M
truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$tmp/small/shm"
shm=$tmp/small/shm
dd if=/dev/zero of="$tmp/small/fill" bs=4k status=none 2>/dev/null || :

cbwctl_fails 1 "KiB for bitmaps: No space left on device" \
             create "$shm" snap --target="$tmp/target"
absent "$tmp/target"
echo precious >"$tmp/old"
cbwctl_fails 1 "KiB for bitmaps: No space left on device" \
             create "$shm" snap --target="$tmp/old" --force
[ "$(cat "$tmp/old")" = precious ] || fail "overwritten for nothing"

# Room for the bitmaps, but no more.
truncate -s -32k "$tmp/small/fill"
cbwctl_fails 1 "$tmp/small/target: its file system is full; make room" \
             create "$shm" snap --target="$tmp/small/target"
absent "$tmp/small/target"
cbwctl status "$shm" --json | json "j['snapshots'] == []"
cbwctl check "$shm" >/dev/null
guest <<PY
h.pwrite (b"x" * 65536, 0)
PY

rm "$tmp/small/fill"
cbwctl create "$shm" snap --target="$tmp/small/target" >/dev/null
cbwctl check "$shm" >/dev/null
