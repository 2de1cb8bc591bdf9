#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Last night's image stays, byte for byte, until tonight's is whole: while
# that is written, if it is cancelled, if it fails, and if the server is
# killed.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
target_faults "$tmp/image"
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl backup "$shm" --to="$tmp/image" >/dev/null
same "$tmp/image" "$tmp/disk"
[ "$(stat -c %a "$tmp/image")" = 600 ] || fail "others may open it"
cp "$tmp/image" "$tmp/old"
inode=$(stat -c %i "$tmp/image")
guest <<PY
import os
h.pwrite (os.urandom (1 << 20), 1 << 20)
PY

stays ()
{
    same "$tmp/image" "$tmp/old"
    [ "$(stat -c %i "$tmp/image")" = "$inode" ] || fail "it was replaced"
}
no_partial ()
{
    absent "$tmp"/image.partial-*
}
begin ()
{
    cbwctl backup "$shm" --to="$tmp/image" --force "$@"
}

# Not without --force; and not if the name is not a file's.
cbwctl_fails 1 "exists and is not empty" backup "$shm" --to="$tmp/image"
mkdir "$tmp/directory"
cbwctl_fails 1 "must be a regular file" backup "$shm" --to="$tmp/directory" \
             --force
no_partial

# While it is written; then cancelled.
begin --speed=1M --detach
wait_for 20 status_is "job['offset'] > 0" || fail "it does not start"
stays
partial=$(echo "$tmp"/image.partial-*)
[ "$(stat -c %a "$partial")" = 600 ] || fail "others may open $partial"
status_is "j['snapshots'][0]['target']['filename'] == '$partial'"
cbwctl check "$shm" >/dev/null
cbwctl backup "$shm" --cancel
stays
no_partial

# It fails.
target_fault errno 5 2000000
cbwctl_fails 1 "failed" backup "$shm" --to="$tmp/image" --force
target_fault none
stays
no_partial

# The server is killed, and another one continues.
begin --speed=1M --detach
wait_for 20 status_is "job['offset'] > 0" || fail "it does not start"
kill_server disk KILL
stays
cbwctl check "$shm" >/dev/null
start_disk file "$tmp/disk" cbw-shm="$shm"
stays
cbwctl backup "$shm" --speed=0
cbwctl backup "$shm" >"$tmp/out"
expect_in "$tmp/out" "$tmp/image,"
same "$tmp/image" "$tmp/disk"
no_partial

# A file that appears meanwhile is not replaced without --force.
rm "$tmp/image"
cbwctl backup "$shm" --to="$tmp/image" --speed=1 --detach
absent "$tmp/image"
echo precious >"$tmp/image"
cbwctl backup "$shm" --speed=0
cbwctl_fails 1 "failed" backup "$shm"
expect_in "$tmp/disk.log" "$tmp/image: a file has appeared there"
[ "$(cat "$tmp/image")" = precious ] || fail "it was replaced"
no_partial

# An empty one is, as ever.
: >"$tmp/image"
cbwctl backup "$shm" --to="$tmp/image" >/dev/null
same "$tmp/image" "$tmp/disk"

# What a lost server left is in nobody's way.
rm "$tmp/image"
echo left >"$tmp/image.partial-01234567"
begin >/dev/null
same "$tmp/image" "$tmp/disk"
[ "$(cat "$tmp/image.partial-01234567")" = left ] || fail "it was changed"
