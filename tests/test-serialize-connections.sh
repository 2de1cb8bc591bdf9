#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A stack that allows one connection at a time (SERIALIZE_CONNECTIONS) is
# refused, and the reason is given: the snapshot must be read beside the
# guest's connection.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
refused --filter="$filter" --filter=noparallel file "$tmp/disk" \
        serialize=connections cbw-shm="$shm" cbw-target="$tmp/target"
expect_in "$tmp/refused.log" "only one connection at a time"
expect_in "$tmp/refused.log" "serialize_connections"
absent "$shm" "$tmp/target"

# Above the filter it is the same.
refused --filter=noparallel --filter="$filter" file "$tmp/disk" \
        serialize=connections cbw-shm="$shm" cbw-target="$tmp/target"
expect_in "$tmp/refused.log" "only one connection at a time"
absent "$shm" "$tmp/target"

# Requests one at a time are fine.
for s in requests all-requests; do
    random_file "$tmp/disk" 1M
    cp "$tmp/disk" "$tmp/original"
    start_disk --filter=noparallel file "$tmp/disk" serialize=$s \
               cbw-shm="$shm" cbw-target="$tmp/target"
    scenario "$tmp/original"
    stop_server disk
    rm "$shm" "$tmp/target"
done
