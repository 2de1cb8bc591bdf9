#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The server stops in order, and one target cannot be flushed.  Every
# snapshot that reads from it is broken when the next server starts, whether
# or not that target's own snapshot was dropped.  Others stay live.

. ./functions.sh
set -e

target_faults "$tmp/newer.cow"

# Old data in "newer" is needed by "older", and not by "oldest", which has
# its own copies of the same clusters, nor by "newest".
# stop_badly [drop]
stop_badly ()
{
    rm -f "$shm" "$tmp"/*.cow*
    random_file "$tmp/disk" 4M
    target_fault none
    start_disk file "$tmp/disk" cbw-shm="$shm"
    cp "$tmp/disk" "$tmp/is-oldest"
    cbwctl create "$shm" oldest --target="$tmp/oldest.cow" >/dev/null
    write 0
    cbwctl create "$shm" older --target="$tmp/older.cow" >/dev/null
    cbwctl create "$shm" newer --target="$tmp/newer.cow" >/dev/null
    write 0
    cp "$tmp/disk" "$tmp/is-newest"
    cbwctl create "$shm" newest --target="$tmp/newest.cow" >/dev/null
    [ "${1:-}" != drop ] || cbwctl drop "$shm" newer >/dev/null
    write 0
    target_fault flush 5
    stop_server disk
    target_fault none
    expect_in "$tmp/disk.log" "Input/output error"
    [ "$(segment get "$shm" clean)" = 1 ] || fail "not stopped in order"
}

# write MIB: one MiB of other data
write ()
{
    nbdsh -u "$disk" -c "
import os
h.pwrite (os.urandom (1048576), $1 * 1048576)"
}

# What the table has, and what the next server has and serves.
# check NAME...: these are broken
check ()
{
    are_broken "$@"
    start_disk file "$tmp/disk" cbw-shm="$shm"
    are_broken "$@"
    start_snap "$shm"
    nbdsh -c - <<PY
import sys
for name in "$*".split ():
    try:
        v = nbd.NBD ()
        v.connect_uri ("nbd+unix:///%s?socket=$tmp/snap.sock" % name)
        v.pread (4096, 0)
    except nbd.Error:
        continue
    sys.exit (name + " was read")
PY
    view_is "$tmp/is-oldest" "nbd+unix:///oldest?socket=$tmp/snap.sock"
    view_is "$tmp/is-newest" "nbd+unix:///newest?socket=$tmp/snap.sock"
    write 1
    view_is "$tmp/is-newest" "nbd+unix:///newest?socket=$tmp/snap.sock"
    stop_server snap
    stop_server disk
}
are_broken ()
{
    local name
    for name; do
        status_is "snaps['$name']['state'] == 'broken'" ||
            fail "$name is not broken"
    done
    for name in oldest newest; do
        status_is "snaps['$name']['state'] == 'live'" ||
            fail "$name is not live"
    done
}

stop_badly
check older newer
stop_badly drop
check older
