#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# FUA, flush, trim, zero (with and without "may trim"), cache, extents and
# what the disk can do pass the filter: the layer below sees them as the
# guest sent them.

. ./functions.sh
set -e

random_file "$tmp/original" 1M
cp "$tmp/original" "$tmp/disk"
start_disk --filter=log file "$tmp/disk" logfile="$tmp/requests" \
           cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
start_nbdkit plain file "$tmp/original"

guest <<PY
h.pwrite (b"a" * 1000, 10000)
h.pwrite (b"b" * 1001, 20000, nbd.CMD_FLAG_FUA)
h.zero (1002, 30000)
h.zero (1003, 40000, nbd.CMD_FLAG_NO_HOLE)
h.zero (1004, 50000, nbd.CMD_FLAG_FUA)
h.trim (1005, 60000)
h.trim (1006, 70000, nbd.CMD_FLAG_FUA)
h.flush ()
h.cache (1007, 80000)
h.block_status (1008, 90000, lambda *a: 0)
assert h.pread (1009, 100000)
PY
# expect REQUEST OFFSET COUNT FLAGS
expect ()
{
    local line
    line=$(printf '%s id=[0-9]* offset=0x%x count=0x%x%s' "$1" "$2" "$3" "$4")
    grep -q "$line" "$tmp/requests" || {
        cat "$tmp/requests" >&2
        fail "expected $line"
    }
}
expect Write 10000 1000 " fua=0"
expect Write 20000 1001 " fua=1"
expect Zero  30000 1002 " trim=1 fua=0 fast=0"
expect Zero  40000 1003 " trim=0 fua=0 fast=0"
expect Zero  50000 1004 " trim=1 fua=1 fast=0"
expect Trim  60000 1005 " fua=0"
expect Trim  70000 1006 " fua=1"
expect Cache 80000 1007 ""
expect Extents 90000 1008 ""
expect Read 100000 1009 ""
grep -q "Flush" "$tmp/requests" || fail "no flush"
view_is "$tmp/original"

# What it can do is what the disk alone can.
can ()
{
    nbdinfo "$1" | sed '/uri:/d; /content:/d'
}
can "$disk" >"$tmp/with"
can "nbd+unix:///?socket=$tmp/plain.sock" >"$tmp/without"
diff "$tmp/with" "$tmp/without" || fail "it can do other things"
expect_in "$tmp/with" "can_fua: true"
