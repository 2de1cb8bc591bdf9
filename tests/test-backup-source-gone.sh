#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk below that says it is shutting down, again and again: the backup
# waits a little, for this server may be ending too; then it fails.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
start_disk --filter=error file "$tmp/disk" cbw-shm="$shm" \
           error-pread=ESHUTDOWN error-pread-rate=100% \
           error-pread-file="$tmp/bad"
touch "$tmp/bad"
cbwctl_fails 1 "failed: reading the disk" backup "$shm" --to="$tmp/image"
absent "$tmp/image"
rm "$tmp/bad"
cbwctl backup "$shm" --to="$tmp/image" >"$tmp/out"
same "$tmp/image" "$tmp/disk"
