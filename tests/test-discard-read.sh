#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# discard=read: one nbdcopy of the view, while a guest writes all over the
# disk, is the old disk, frees the target as it goes, and guests' writes
# copy nothing where it has passed.  A second client is refused.

. ./functions.sh
set -e
requires nbdcopy

random_file "$tmp/disk" 16M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
           cbw-target="$tmp/target"
start_snap "$shm" discard=read
used () { echo $(( $(stat -c %b "$tmp/target") / 2 )); }

# Everything is in the target.
guest <<PY
h.pwrite (b"1" * 8 * 1024 * 1024, 0)
PY
[ "$(used)" -eq 8192 ] || fail "$(used)"

# Odd pieces: clusters go when all of 1 MiB has been read, or with the client.
nbdsh -c - <<PY
import errno
old = open ("$tmp/original", "rb").read ()
h = nbd.NBD ()
h.connect_uri ("$snap")
assert not h.can_multi_conn () and h.is_read_only ()
def denied (count, offset):
    try:
        h.pread (count, offset)
        assert False, offset
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
def read (count, offset):
    assert h.pread (count, offset) == old[offset:offset + count]
M = 1024 * 1024
read (65535, 0)
read (65535, 0)
read (10, 65536)
read (1, 65535)
read (65536, 0)
read (M - 65536 + 100, 65536)
denied (1, 0)
denied (1, M - 1)
denied (M, 0)
read (1, M)
read (200000, 2 * M)
read (200000, 2 * M)

# One client at a time: in this process, and in another.
other = nbd.NBD ()
try:
    other.connect_uri ("$snap")
    assert False
except nbd.Error:
    pass
PY
less () { [ "$(used)" -eq $((8192 - 16 * 64 - 3 * 64)) ]; }
wait_for 10 less || fail "$(used)"
expect_in "$tmp/snap.log" "is being read by another client with discard=read"

start_nbdkit second "$plugin" "$shm" discard=read
second="nbd+unix:///?socket=$tmp/second.sock"
nbdsh -u "$second" -c - <<PY
other = nbd.NBD ()
try:
    other.connect_uri ("$snap")
    assert False
except nbd.Error:
    pass
PY
# Others may be read.
cbwctl create "$shm" two --target="$tmp/two" >/dev/null
cp "$tmp/disk" "$tmp/is-two"
nbdsh -u "$second" -c - <<PY
h.pread (1, 0)
other = nbd.NBD ()
other.connect_uri ("nbd+unix:///snapshot?socket=$tmp/snap.sock")
PY

# The whole, under load.
( set -o pipefail; nbdcopy "$second" - | cmp - "$tmp/is-two" ) &
copy=$!
guest <<PY
import os, random
random.seed (1)
end = 0
for i in range (400):
    h.pwrite (os.urandom (100000), random.randrange (16 * 1024 * 1024 - 100000))
PY
wait $copy || fail "the copy differs"
[ "$(( $(stat -c %b "$tmp/two") / 2 ))" -le 8192 ] || fail "too much is held"
guest <<PY
import os
h.pwrite (os.urandom (1024 * 1024), 0)
PY
cbwctl status "$shm" --json >"$tmp/json"
stop_server second
# What the older one needs is all that is left, and goes with it.
cbwctl drop "$shm" snapshot >/dev/null
used_two () { [ "$(stat -c %b "$tmp/two")" -le 512 ]; }
used_two || fail "$(stat -c %b "$tmp/two") blocks are left of a snapshot discarded"
before=$(cbwctl status "$shm" --json | "$PYTHON" -c 'import json, sys
print (json.load (sys.stdin)["snapshots"][0]["copied-clusters"])')
guest <<PY
import os
h.pwrite (os.urandom (16 * 1024 * 1024), 0)
PY
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['copied-clusters'] == $before"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }
