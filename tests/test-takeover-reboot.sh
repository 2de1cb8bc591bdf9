#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A segment in a regular file survives a reboot, seen by another boot id.
# If the server had ended in good order, its snapshot is whole; if not, it
# is broken, with that reason, since who knows what reached the disk.

. ./functions.sh
set -e

random_file "$tmp/original" 1M
other=hex:000102030405060708090a0b0c0d0e0f

# session END BOOT_ID: a server which ends so, then another boot
session ()
{
    rm -f "$shm" "$tmp/target"
    cp "$tmp/original" "$tmp/disk"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
    guest <<PY
h.pwrite (b"1" * 100000, 100000)
PY
    [ "$(segment get "$shm" clean)" = 0 ] || fail "clean while it runs"
    if [ $1 = TERM ]; then stop_server disk; else kill_server disk KILL; fi
    [ "$(segment get "$shm" boot_id)" = \
      "hex:$(tr -d - </proc/sys/kernel/random/boot_id)" ] || fail "boot id"
    [ "$2" = same ] || segment set "$shm" boot_id "$2"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
    start_snap "$shm"
}

whole ()
{
    guest <<PY
h.pwrite (b"2" * 500000, 50000)
PY
    view_is "$tmp/original"
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" ", live"
    stop_server snap
    stop_server disk
}

session TERM same
[ "$(segment get "$shm" clean)" = 0 ] || fail "still clean"
whole
[ "$(segment get "$shm" clean)" = 1 ] || fail "not clean"
session KILL same
whole
session TERM $other
[ "$(segment get "$shm" boot_id)" != $other ] || fail "boot id was not set"
whole

session KILL $other
expect_in "$tmp/disk.log" "the host went down without a clean shutdown"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "broken: the host went down without a clean shutdown"
guest <<PY
h.pwrite (b"2" * 500000, 50000)
assert h.pread (500000, 50000) == b"2" * 500000
PY
if nbdcopy "$snap" null: 2>/dev/null; then
    fail "a broken snapshot was read"
fi
stop_server snap
stop_server disk

# It does not heal by a clean end.
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
start_snap "$shm"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "broken: the host went down without a clean shutdown"
