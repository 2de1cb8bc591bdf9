#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl on segments that it cannot use: not there, without a server, of
# another version, of another geometry, not readable.

. ./functions.sh
set -e

for command in "create x" "drop x" "map x" status check; do
    # shellcheck disable=SC2086
    set -- $command
    cbwctl_fails 1 "$shm: there is no such segment; start nbdkit" \
                 "$1" "$shm" ${2:+"$2"}
    cbwctl_fails 1 '"" is not a name for a segment' "$1" "" ${2:+"$2"}
done
absent "$shm"

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl create "$shm" one >/dev/null
stop_server disk
cp "$shm" "$tmp/good"
cbwctl_fails 1 "no server has this segment; start nbdkit --filter=cbw" \
             create "$shm" two
absent "$tmp/two.cow"
cbwctl_fails 1 "no server has this segment; start nbdkit --filter=cbw" \
             drop "$shm" one
[ -e "$tmp/one.cow" ] || fail "dropped without a server"
same "$tmp/good" "$shm"

# damaged OFFSET MESSAGE: with that byte changed, nobody touches it.
damaged ()
{
    cp "$tmp/good" "$shm"
    printf '\11' | dd of="$shm" bs=1 seek="$1" conv=notrunc status=none
    cp "$shm" "$tmp/bad"
    cbwctl_fails 1 "$2" create "$shm" two
    cbwctl_fails 1 "$2" drop "$shm" one
    cbwctl_fails 1 "$2" map "$shm" one
    cbwctl_fails 1 "$2" status "$shm"
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm"
    expect_in "$tmp/refused.log" "$2"
    same "$tmp/bad" "$shm"
}
damaged 8 "is a segment of another version"
damaged 20 "the checksum of its header is wrong"

# The segment of another disk, or with another cluster size.
cp "$tmp/good" "$shm"
truncate -s 512k "$tmp/smaller"
refused --filter="$filter" file "$tmp/smaller" cbw-shm="$shm"
expect_in "$tmp/refused.log" "is it the right disk?"
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" \
        cbw-cluster-size=4k
expect_in "$tmp/refused.log" "was made with cbw-cluster-size=65536"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl drop "$shm" one >/dev/null
