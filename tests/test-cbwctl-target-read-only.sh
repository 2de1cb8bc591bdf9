#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create where the target's file system is read-only: refused, also
# for root, and nothing has changed.

. ./functions.sh
set -e

small_tmpfs 1M
echo precious >"$tmp/small/old"
mount -o remount,ro "$tmp/small"

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl_fails 1 "$tmp/small/new: cannot create the target: Read-only file" \
             create "$shm" snap --target="$tmp/small/new"
cbwctl_fails 1 "Read-only file system" \
             create "$shm" snap --target="$tmp/small/old" --force
[ "$(cat "$tmp/small/old")" = precious ] || fail "overwritten"
cbwctl status "$shm" --json | json "j['snapshots'] == []"
cbwctl check "$shm" >/dev/null
