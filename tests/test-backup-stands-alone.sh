#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A complete backup has nothing to do with older snapshots any more.  Its
# image may be written to and removed, its server stopped, and the older
# snapshot stays as it was.  A backup that was cancelled or that failed has
# never been there.

. ./functions.sh
set -e

random_file "$tmp/disk" 8M
target_faults "$tmp/failed.img"
serve ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm"
}
serve
start_snap "$shm" timeout=60
cp "$tmp/disk" "$tmp/is-old"
cbwctl create "$shm" old --target="$tmp/old.cow" >/dev/null
old="nbd+unix:///old?socket=$tmp/snap.sock"

# write FROM TO: MiBs of other data
write ()
{
    nbdsh -u "$disk" -c "
import os
for i in range ($1, $2):
    h.pwrite (os.urandom (1048576), i * 1048576)"
}

# The old snapshot is right, alone in the table, and its map says that
# nothing was copied but the MiBs from 0 to $1.
check_old ()
{
    states old=live
    view_is "$tmp/is-old" "$old"
    cbwctl map "$shm" old --json |
        json "sum (x['length'] for x in j if x['type'] == 1) == $1 << 20 and
              j[0]['type'] == 1"
    cbwctl check "$shm" >"$tmp/check" ||
        { cat "$tmp/check" >&2; fail "cbwctl check"; }
}

# Nobody has the file open or locked.
check_free ()
{
    ! ls -l "/proc/$(server_pid disk)/fd" | grep -F "$1" >&2 ||
        fail "$1 is still open"
    "$PYTHON" -c '
import fcntl, sys
with open (sys.argv[1], "r+b") as f:
    fcntl.lockf (f, fcntl.LOCK_EX | fcntl.LOCK_NB)' "$1" ||
        fail "$1 is locked"
}

# begin NAME TO ARGS...: a backup of the disk as it is now, $tmp/is-NAME
begin ()
{
    local name=$1 to=$2
    shift 2
    cp "$tmp/disk" "$tmp/is-$name"
    cbwctl backup "$shm" "$name" --to="$to" --detach "$@"
}

write 0 1
begin b "$tmp/b.img" --speed=2M
write 0 3                               # the third was never copied before
cbwctl backup "$shm" b --speed=0
cbwctl backup "$shm" b >"$tmp/out"
expect_in "$tmp/out" "Backup complete"
same "$tmp/b.img" "$tmp/is-b"
check_free "$tmp/b.img"
check_old 3
random_file "$tmp/scribble" 8M
dd if="$tmp/scribble" of="$tmp/b.img" bs=1M conv=notrunc status=none
check_old 3
rm "$tmp/b.img"
check_old 3
write 2 4
check_old 4

# Through servers that end in both ways.
kill_server disk KILL
serve
check_old 4
stop_server disk
serve
check_old 4
write 4 5
check_old 5

# A server that is told to go on with a backup, and then another one.
begin c "$tmp/c.img" --speed=1M
write 4 6
kill_server disk KILL
serve
cbwctl backup "$shm" c --speed=0
cbwctl backup "$shm" c >/dev/null
same "$tmp/c.img" "$tmp/is-c"
cp "$tmp/scribble" "$tmp/c.img"
kill_server disk KILL
serve
check_old 6
rm "$tmp/c.img"
stop_server disk
serve
check_old 6

# An NBD server that ends when the backup is complete.
truncate -s 8M "$tmp/served.img"
start_server nbd "$NBDKIT" -f -U "$tmp/nbd.sock" file "$tmp/served.img"
begin d "nbd+unix:///?socket=$tmp/nbd.sock" --speed=2M
write 5 7
cbwctl backup "$shm" d --speed=0
cbwctl backup "$shm" d >/dev/null
stop_server nbd
same "$tmp/served.img" "$tmp/is-d"
check_old 7
kill_server disk KILL
serve
check_old 7

# Those that are cancelled, or fail: no file, no entry, nothing moved aside.
begin_x ()
{
    begin x "$1" --speed=1M
    rm "$tmp/is-x"
}
files ()
{
    ls -A "$tmp" | grep -v '^refused\.'
}
same_files ()
{
    [ "$(files)" = "$before" ]
}
nothing_left ()
{
    wait_for 10 same_files || fail "left behind: $(files)"
    wait_for 10 status_is "list (snaps) == ['old']" ||
        fail "left in the table: $(cbwctl status "$shm")"
    check_old 7
}
before=$(files)
for how in --cancel drop; do
    begin_x "$tmp/x.img"
    write 6 7
    case $how in
        drop) cbwctl drop "$shm" x >/dev/null ;;
        *) cbwctl backup "$shm" x --cancel ;;
    esac
    nothing_left
done
target_fault errno 5 4000000
begin_x "$tmp/failed.img"
cbwctl backup "$shm" x --speed=0 2>/dev/null || :  # unless it has failed
cbwctl_fails 1 "failed: writing the image" backup "$shm" x
nothing_left
target_fault none
begin_x "$tmp/failed.img"               # and by a guest's copy
target_fault errno 5
write 6 7
cbwctl_fails 1 "failed" backup "$shm" x
nothing_left
target_fault none

# They do not pile up, whether or not somebody asks how they went.
stop_server snap
stop_server disk
rm "$shm"
random_file "$tmp/disk" 256k
cp "$tmp/disk" "$tmp/is-old"
serve
start_snap "$shm"
cbwctl create "$shm" old --target="$tmp/old2.cow" >/dev/null
for i in $(seq 60); do
    cbwctl backup "$shm" "n$i" --to="$tmp/n$i.img" --detach
    nbdsh -u "$disk" -c "h.pwrite (b'%d' % ($i % 10) * 4096, $i * 4096)"
    wait_for 20 status_is "not any (s.get ('job', {}).get ('status') ==
                          'running' for s in snaps.values ())" ||
        fail "backup $i does not end"
    rm "$tmp/n$i.img"
done
view_is "$tmp/is-old" "$old"
for i in 1 2 3 4; do
    cbwctl create "$shm" "new$i" --target="$tmp/new$i.cow" >/dev/null
done
cbwctl backup "$shm" last --to="$tmp/last.img" >/dev/null
same "$tmp/last.img" "$tmp/disk"
view_is "$tmp/is-old" "$old"
