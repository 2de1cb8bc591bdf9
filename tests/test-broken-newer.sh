#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A newer snapshot that breaks, or is dropped while its target is full,
# harms nobody but itself and those whose data only it holds: an older one
# with room left, whose policy is break-guest-write, is copied for as
# before, and guests' writes succeed.

. ./functions.sh
set -e

small_tmpfs 1M
# write FROM TO: half MiBs of other data; all must succeed
write ()
{
    nbdsh -u "$disk" -c "
import os
for i in range ($1, $2):
    h.pwrite (os.urandom (524288), i * 524288)"
}
view ()
{
    view_is "$tmp/is-$1" "nbd+unix:///$1?socket=$tmp/snap.sock"
}
serve ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm"
}
# create NAME TARGET OPTIONS...
create ()
{
    local name=$1 target=$2
    shift 2
    cp "$tmp/disk" "$tmp/is-$name"
    cbwctl create "$shm" "$name" --target="$target" "$@" >/dev/null
}

# What "new" may use comes to its end in the middle of the writes: the rest
# is copied for "old" alone.
# end_new TARGET OPTIONS...
end_new ()
{
    rm -f "$shm" "$tmp"/*.cow* "$tmp"/small/*
    random_file "$tmp/disk" 16M
    serve
    create old "$tmp/old.cow" --on-error=break-guest-write
    write 0 1
    create new "$@"
    write 0 8
    states old=live new=broken
    write 4 12
    view old
}
finish ()
{
    write 12 16
    view old
    status_is "snaps['old']['state'] == 'live'" || fail "old is not live"
    kill_server disk KILL
    stop_server snap
    serve
    write 10 20
    status_is "snaps['old']['state'] == 'live'" || fail "old is not live"
    view old
    stop_server disk
    stop_server snap
    serve
    write 18 24
    view old
    status_is "snaps['old']['state'] == 'live'" || fail "old is not live"
    cbwctl drop "$shm" old >/dev/null
    write 0 24
    cbwctl check "$shm" >"$tmp/check" ||
        { cat "$tmp/check" >&2; fail "cbwctl check"; }
    stop_server snap
    stop_server disk
}

for how in quota full; do
    case $how in
        quota) set -- "$tmp/new.cow" --quota=1M ;;
        full) set -- "$tmp/small/new.cow" ;;
    esac

    # It stays, broken.
    end_new "$@"
    finish

    # It is dropped.
    end_new "$@"
    cbwctl drop "$shm" new >/dev/null
    finish

    # Another one is taken, before it is dropped and after.
    end_new "$@"
    create rescue "$tmp/rescue.cow"
    write 10 14
    view rescue
    cbwctl drop "$shm" new >/dev/null
    write 14 18
    view rescue
    create rescue2 "$tmp/rescue2.cow" --on-error=break-guest-write
    write 14 20
    view rescue
    view rescue2
    cbwctl drop "$shm" rescue >/dev/null
    write 18 22
    view old
    view rescue2
    cbwctl drop "$shm" rescue2 >/dev/null
    finish
done

# A target that becomes full while it is dropped, needed by "old" still.
rm -f "$shm" "$tmp"/*.cow* "$tmp"/small/*
random_file "$tmp/disk" 16M
serve
create old "$tmp/old.cow" --on-error=break-guest-write
create new "$tmp/small/new.cow"
write 0 1
cbwctl drop "$shm" new >/dev/null
write 1 12
view old
finish
