#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup to NBD servers, while a guest writes: qcow2 made by a command,
# and an export full of rubbish, in which zeroes must be written as well.  The
# image stands alone afterwards; a cancelled one is not called complete.

. ./functions.sh
set -e
requires qemu-img qemu-nbd

random_file "$tmp/disk" 6M
truncate -s 24M "$tmp/disk"                     # a hole
dd if=/dev/zero of="$tmp/disk" bs=64k seek=7 count=20 conv=notrunc status=none
cp --sparse=always "$tmp/disk" "$tmp/old"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-commands=on

# backup TARGET ARGS...: of a disk that a guest overwrites meanwhile, hole
# and all
backup ()
{
    local to=$1
    shift
    cp --sparse=always "$tmp/old" "$tmp/fresh"
    dd if="$tmp/fresh" of="$tmp/disk" bs=1M conv=notrunc status=none
    cbwctl backup "$shm" --to="$to" --speed=4M --detach "$@"
    guest <<'PY'
import random
random.seed (3)
for i in range (200):
    n = random.randrange (1, 200000)
    at = random.randrange (24 * 1024 * 1024 - n)
    if i % 5 == 0:
        h.trim (n, at)
    else:
        h.pwrite (b"n" * n, at)
PY
    cbwctl backup "$shm" --speed=0
    cbwctl backup "$shm" >"$tmp/out"
    expect_in "$tmp/out" "Backup complete"
    cbwctl status "$shm" --json | json 'j["snapshots"] == []'
}

qemu-img create -q -f qcow2 "$tmp/image.qcow2" 24M
backup "[ qemu-nbd -f qcow2 $tmp/image.qcow2 ]"
qemu-img check -q "$tmp/image.qcow2"
qemu-img compare -q -f raw -F qcow2 "$tmp/old" "$tmp/image.qcow2" ||
    fail "the qcow2 differs"
used=$(stat -c %s "$tmp/image.qcow2")
[ "$used" -lt $(( 9 << 20 )) ] || fail "the qcow2 is not sparse: $used"

random_file "$tmp/image" 24M
start_nbdkit target file "$tmp/image"
uri="nbd+unix:///?socket=$tmp/target.sock"
cbwctl_fails 1 "the export holds data" backup "$shm" --to="$uri"
backup "$uri" --force
same "$tmp/image" "$tmp/old"

# Cancelled: by a signal, as ^C does.
random_file "$tmp/image" 24M
"$cbwctl" backup "$shm" --to="$uri" --force --speed=1M \
          >"$tmp/out" 2>"$tmp/err" &
pid=$!
under_way ()
{
    cbwctl status "$shm" --json | json 'len (j["snapshots"]) == 1' 2>/dev/null
}
wait_for 30 under_way || fail "the backup did not start"
kill -INT $pid
rc=0
wait $pid || rc=$?
[ $rc -eq 1 ] || fail "a cancelled backup ends with $rc"
expect_in "$tmp/err" "cancelled"
cbwctl status "$shm" --json | json 'j["snapshots"] == []'
