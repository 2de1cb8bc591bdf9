#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create without --target, for a segment in memory: the target is in
# /var/tmp, since old data does not belong into memory.

. ./functions.sh
set -e

name=$(basename "$tmp")         # unique on this machine
memory=/dev/shm/$name
[ "$(stat -f -c %T /dev/shm)" = tmpfs ] || {
    echo "$me: SKIP: /dev/shm is no tmpfs"
    exit 77
}
remove () { rm -f "$memory" "/var/tmp/$name.cow"; }
at_exit remove

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$name"
cbwctl create "$name" "$name" >"$tmp/out"
expect_in "$tmp/out" "Old data goes to /var/tmp/$name.cow."
[ -f "/var/tmp/$name.cow" ] || fail "no target"
cbwctl status "$name" --json |
    json "j['snapshots'][0]['target']['filename'] == '/var/tmp/$name.cow'"
cbwctl drop "$name" "$name" >/dev/null
absent "/var/tmp/$name.cow"
