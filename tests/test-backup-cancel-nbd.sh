#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A backup to an NBD export is cancelled at any moment: when that has been
# answered the export is empty, and takes the next backup.

. ./functions.sh
set -e
. "$top_srcdir/tests/stress.sh"         # random

random_file "$tmp/disk" 64M
truncate -s 64M "$tmp/image"
start_nbdkit target file "$tmp/image"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
uri="nbd+unix:///?socket=$tmp/target.sock"

# empty ROUND
empty ()
{
    cmp -n $(( 64 << 20 )) "$tmp/image" /dev/zero >&2 ||
        fail "round $1: data is left in the export"
}

for round in 1 2 3 4 5; do
    random 40
    cbwctl backup "$shm" b --to="$uri" --detach ||
        fail "round $round: refused"
    wait_for 60 status_is \
             "snaps['b']['job']['offset'] >= $dice << 20 or
              snaps['b']['job']['status'] != 'running'" ||
        fail "round $round: it does not begin"
    cbwctl backup "$shm" b --cancel 2>"$tmp/cancel" || {
        # It was too fast, perhaps by a moment: then it is gone.
        expect_in "$tmp/cancel" "is complete"
        cbwctl drop "$shm" b >/dev/null 2>&1 || :
        truncate -s 0 "$tmp/image"
        truncate -s 64M "$tmp/image"
    }
    empty $round
    states
done

# In the same way by drop, of one that is surely not complete.
cbwctl backup "$shm" b --to="$uri" --detach --speed=16M
wait_for 60 status_is "snaps['b']['job']['offset'] >= 4 << 20"
cbwctl drop "$shm" b >/dev/null
empty dropped
states

# Beside an older snapshot, while a guest writes.
cp "$tmp/disk" "$tmp/is-old"
cbwctl create "$shm" old --target="$tmp/old.cow" >/dev/null
for round in 1 2 3; do
    cbwctl backup "$shm" b --to="$uri" --detach --speed=20M ||
        fail "beside an older one: refused"
    guest <<PY
import os
for i in range (16):
    h.pwrite (os.urandom (1 << 20), ($round + 3 * i) << 20)
PY
    cbwctl backup "$shm" b --cancel
    empty "beside an older one"
    states old=live
done
start_snap "$shm"
view_is "$tmp/is-old" "nbd+unix:///old?socket=$tmp/snap.sock"
cp "$tmp/disk" "$tmp/is-b"
cbwctl backup "$shm" b --to="$uri" >/dev/null
same "$tmp/image" "$tmp/is-b"
