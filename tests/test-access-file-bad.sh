#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Access files that are refused, with the line that is wrong; at start, and
# by cbwctl create.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$tmp/running" cbw-cluster-size=64k
bad ()
{
    printf -- "$2" >"$tmp/areas"
    cbwctl_fails 1 "$tmp/areas$1" create "$tmp/running" s \
                 --access="$tmp/areas"
    absent "$tmp/s.cow"
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" \
            cbw-cluster-size=64k \
            cbw-target="$tmp/target" cbw-access="$tmp/areas"
    expect_in "$tmp/refused.log" "$tmp/areas$1"
    absent "$shm" "$tmp/target"
}
bad ': has no area'                             ''
bad ': has no area'                             '# nothing\n\n'
no="is not OFFSET LENGTH:"
bad ":2: $no there is no length"                '0 1k\n5\n'
bad ":1: $no the length is not a number"        '5 x\n'
bad ":1: $no something follows the length"      '0 1 2\n'
bad ":1: $no the offset is not a number"        '-1 5\n'
bad ":1: $no the length is not a number"        '0 5kk\n'
bad ":1: $no the length is not a number"        '0 99999999999999999999\n'
bad ":1: $no the length is not a number"        '0 18000000000G\n'
bad ':3: the area is empty'                     '#\n#\n7 0'
bad ':2: the area overlaps that of line 1'      '0 1000\n999 1\n'
bad ':3: the area overlaps that of line 1'      '5000 1000\n0 10\n4999 2\n'
bad ':2: the area ends past the disk of 1048576 bytes' '0 1\n1048575 2\n'
bad ':1: the area ends past the disk'           '1048577 1\n'
bad ':1: the area ends past the disk'           '1 0xffffffffffffffff\n'

cbwctl_fails 1 "$tmp/none: cannot open the access file: No such file" \
             create "$tmp/running" s --access="$tmp/none"
cbwctl_fails 1 "--access: the file name is empty" \
             create "$tmp/running" s --access=
mkfifo "$tmp/fifo"
cbwctl_fails 1 "$tmp/fifo: the access file must be a regular file" \
             create "$tmp/running" s --access="$tmp/fifo"
# One line of 3 GB is not read, and what a file holds is not told.
truncate -s 3G "$tmp/huge"
cbwctl_fails 1 "$tmp/huge: the access file has more than 16 MiB" \
             create "$tmp/running" s --access="$tmp/huge"
head -c 5000 /dev/zero | tr '\0' x >"$tmp/long"
cbwctl_fails 1 "$tmp/long:1: the line has more than 4096 bytes" \
             create "$tmp/running" s --access="$tmp/long"
echo 'root:SECRET:19000::::::' >"$tmp/shadow"
cbwctl_fails 1 "$tmp/shadow:1: $no the offset" \
             create "$tmp/running" s --access="$tmp/shadow"
not_in "$tmp/refused.log" SECRET
not_in "$tmp/disk.log" SECRET
# Neighbours, and two areas in one cluster, do not overlap.
printf '0 1000\n1000 1000\n2000 1\n' >"$tmp/areas"
cbwctl create "$tmp/running" s --access="$tmp/areas" >/dev/null
cbwctl map "$tmp/running" s --json |
    json "[e['length'] for e in j] == [65536, 1048576 - 65536]"
