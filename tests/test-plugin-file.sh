#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of nbdkit-file-plugin's disk: random data and holes.

. ./functions.sh
set -e

random_file "$tmp/original" 900000
truncate -s 3000000 "$tmp/original"
cp --sparse=always "$tmp/original" "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
scenario "$tmp/original"
