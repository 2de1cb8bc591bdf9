#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# When the server ends a target cannot be flushed: not its snapshot alone is
# broken, but every one that is read from it, though it has been dropped
# itself; also where the segment is in memory.  Others are not.
set -e
. ./functions.sh
small_tmpfs 40M

target_faults "$tmp/newer"
random_file "$tmp/disk" 2M
state () { cbwctl status "$1" --json |
    json "[s['state'] for s in j['snapshots'] if s['name'] == '$2'] == ['$3']"; }

# run SEGMENT dropped|kept
run ()
{
    local seg=$1
    start_disk file "$tmp/disk" cbw-shm="$seg" cbw-cluster-size=64k
    cbwctl create "$seg" older --target="$tmp/older" >/dev/null
    # What is overwritten now is in its own target.
    guest <<PY
import os
h.pwrite (os.urandom (65536), 0)
PY
    # Of this one only the first cluster is read, which nobody overwrites.
    cbwctl create "$seg" bystander --target="$tmp/bystander" \
           --access="$tmp/areas" >/dev/null
    cbwctl create "$seg" newer --target="$tmp/newer" >/dev/null
    guest <<PY
import os
h.pwrite (os.urandom (1000000), 1048576)
PY
    # The newest: what it holds nobody else needs.
    cbwctl create "$seg" newest --target="$tmp/newest" >/dev/null
    [ "$2" = kept ] || cbwctl drop "$seg" newer >/dev/null
    target_fault flush 5
    stop_server disk
    target_fault none
    state "$seg" older broken
    state "$seg" bystander live
    [ "$2" = dropped ] || state "$seg" newer broken
    state "$seg" newest live
    expect_in "$tmp/disk.log" "snapshot \"older\" is broken"
    # That is known, so it was left in order.
    [ "$(segment get "$seg" clean)" = 1 ] || fail "clean"
    start_disk file "$tmp/disk" cbw-shm="$seg"
    state "$seg" older broken
    state "$seg" bystander live
    cbwctl drop "$seg" older bystander newest >/dev/null
    [ "$2" = dropped ] || cbwctl drop "$seg" newer >/dev/null
    stop_server disk
    rm -f "$seg" "$tmp"/newer*
}
echo "0 64k" >"$tmp/areas"
for seg in "$shm" "$tmp/small/shm"; do
    run "$seg" kept
    run "$seg" dropped
done
