#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel cannot write back what was written to a target, and drops it:
# whoever reads through the target gets an error, never what is left in the
# file; its snapshots are broken within two seconds though nobody reads; and
# a backup is not complete.

. ./functions.sh
set -e

# As target-fault-preload.so plays it: for that no mount is needed.
target_faults "$tmp/s2.cow"
random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/first"
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
states ()
{
    cbwctl status "$shm" --json |
        "$PYTHON" -c 'import json, sys
print (*[s["state"] for s in json.load (sys.stdin)["snapshots"]])'
}
states_are () { [ "$(states)" = "$1" ]; }

for reader in no yes; do
    cbwctl create "$shm" s1 --target="$tmp/s1.cow" >/dev/null
    cp "$tmp/disk" "$tmp/second"
    cbwctl create "$shm" s2 --target="$tmp/s2.cow" \
           --on-error=break-guest-write >/dev/null
    guest <<PY
h.pwrite (b"1" * 200000, 0)
PY
    view_is "$tmp/second" "nbd+unix:///s2?socket=$tmp/snap.sock"
    target_fault lost 28
    if [ $reader = yes ]; then
        for name in s2 s1; do
            nbdsh -u "nbd+unix:///$name?socket=$tmp/snap.sock" -c '
try:
    h.pread (1000, 0)
    assert False, "data that was lost"
except nbd.Error as e:
    assert e.errno == "EIO", e'
        done
    fi
    wait_for 2 states_are "broken broken" ||
        fail "reader=$reader: they are: $(states)"
    cbwctl status "$shm" >"$tmp/out"
    expect_in "$tmp/out" "No space left on device"
    # The guest is not held up.
    guest <<PY
h.pwrite (b"2" * 200000, 0)
PY
    target_fault none
    cbwctl drop "$shm" s1 s2 >/dev/null
    absent "$tmp/s1.cow" "$tmp/s2.cow"
done

# A backup: while it is filled, and when it is flushed.
for when in early late; do
    echo "last night" >"$tmp/s2.cow"
    if [ $when = early ]; then
        cbwctl backup "$shm" --to="$tmp/s2.cow" --force --speed=1 --detach
        target_fault lost 5
        cbwctl_fails 1 "failed" backup "$shm"
    else
        target_fault lost 5
        cbwctl_fails 1 "failed" backup "$shm" --to="$tmp/s2.cow" --force
    fi
    expect_in "$tmp/refused.log" "Input/output error"
    target_fault none
    [ "$(cat "$tmp/s2.cow")" = "last night" ] || fail "replaced"
    absent "$tmp"/s2.cow.partial-*
done
