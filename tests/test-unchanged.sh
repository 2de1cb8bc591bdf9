#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A guest that writes what is there already changes nothing: the plugin gets
# the write, but nothing is copied for it.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/old"
start_disk --filter=log file "$tmp/disk" cbw-shm="$shm" \
           cbw-cluster-size=64k logfile="$tmp/log"
start_snap "$shm"
cbwctl create "$shm" snapshot --target="$tmp/target" >/dev/null

# So many KiB are in the target, and so many writes came to the plugin.
check ()
{
    local kib=$(( $(stat -c %b "$tmp/target") / 2 ))
    local writes=$(grep -c ' Write .*\.\.\.' "$tmp/log" || :)

    [ "$kib" -eq "$1" ] || fail "$kib KiB were copied, not $1"
    [ "$writes" -eq "$2" ] || fail "$writes writes, not $2"
}

# The whole disk over itself, as a restore or a resync does.
nbdcopy "$tmp/disk" "$disk"
check 0 16
nbdcopy --request-size=32768 "$tmp/disk" "$disk"
check 0 144

# One byte that differs, in the middle of an unaligned write: its clusters
# are copied, as they are one run.
guest <<PY
old = bytearray (open ("$tmp/old", "rb").read ())
h.pwrite (bytes (old[1000000:1100000]), 1000000, nbd.CMD_FLAG_FUA)
old[1050000] ^= 1
h.pwrite (bytes (old[1000000:1100000]), 1000000)
assert h.pread (len (old), 0) == old
PY
check 128 146
nbdcopy "$snap" "$tmp/view"
cmp "$tmp/view" "$tmp/old"
cmp "$tmp/disk" "$tmp/old" && fail "the write did not come through"

# All back to what it was: that is a change where it was changed before.
nbdcopy "$tmp/old" "$disk"
check 128 162
nbdcopy "$snap" "$tmp/view"
cmp "$tmp/view" "$tmp/old"
