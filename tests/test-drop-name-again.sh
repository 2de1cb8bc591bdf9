#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The name of a dropped snapshot, and of its target, can be used again at
# once, even while an older snapshot still needs the old target; also with
# a filter started anew with the same command.
set -e
. ./functions.sh

random_file "$tmp/disk.img" 1M
start_disk file "$tmp/disk.img" cbw-shm="$shm"
start_snap "$shm"
write ()
{
    nbdsh -u "$disk" -c "h.pwrite (b'$1' * 65536, $2)"
}

cp "$tmp/disk.img" "$tmp/old"
cbwctl create "$shm" old
write a 0
cbwctl create "$shm" again      # target again.cow
write b 131072                  # kept by "again", for "old" too
cbwctl drop "$shm" again
[ -f "$tmp"/again.cow.dropped-2 ] || fail "the target was not moved aside"
cp "$tmp/disk.img" "$tmp/again"
cbwctl create "$shm" again
write c 262144
same "$tmp/old" <(nbdcopy "nbd+unix:///old?socket=$tmp/snap.sock" -)
same "$tmp/again" <(nbdcopy "nbd+unix:///again?socket=$tmp/snap.sock" -)

# After a restart, with a hidden one in the chain.
kill_server disk KILL
start_disk file "$tmp/disk.img" cbw-shm="$shm"
stop_server snap
start_snap "$shm"
same "$tmp/old" <(nbdcopy "nbd+unix:///old?socket=$tmp/snap.sock" -)
same "$tmp/again" <(nbdcopy "nbd+unix:///again?socket=$tmp/snap.sock" -)
cbwctl check "$shm"

# When the older one goes, so does what was moved aside.
cbwctl drop "$shm" old
absent "$tmp"/again.cow.dropped-2
absent "$tmp"/old.cow
same "$tmp/again" <(nbdcopy "nbd+unix:///again?socket=$tmp/snap.sock" -)

# The snapshot at start, dropped and made again by the same command.
stop_server snap
stop_server disk
args=(file "$tmp/disk.img" cbw-shm="$tmp/shm2" cbw-target="$tmp/start.cow"
      cbw-snapshot=second)
start_disk file "$tmp/disk.img" cbw-shm="$tmp/shm2" \
    cbw-target="$tmp/first.cow" cbw-snapshot=first
stop_server disk
start_disk "${args[@]}"
write d 393216
cbwctl drop "$tmp/shm2" second
stop_server disk
start_disk "${args[@]}"
start_snap "$tmp/shm2"
view_is "$tmp/disk.img"
