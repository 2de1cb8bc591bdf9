#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# discard=true: what a client trims cannot be read any more, is not copied,
# and its space is free, unless an older snapshot needs it, and then as soon
# as that one discards it too.  Whole clusters only; for good.

. ./functions.sh
set -e

random_file "$tmp/disk" 2M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm" discard=true
used ()
{
    local file=$tmp/$1.cow

    [ -f "$file" ] || file=$(echo "$file".dropped-*)
    echo $(( $(stat -c %b "$file") / 2 ))
}

cp "$tmp/disk" "$tmp/is-one"
cbwctl create "$shm" one >/dev/null
guest <<PY
h.pwrite (b"1" * 1024 * 1024, 0)
PY
[ "$(used one)" -eq 1024 ] || fail "$(used one)"

cat >"$tmp/lib.py" <<PY
import errno
CS = 65536
def denied (op, *args):
    try:
        op (*args)
        assert False, args
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
def connect (name):
    h = nbd.NBD ()
    h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri ("nbd+unix:///%s?socket=$tmp/snap.sock" % name)
    return h
def old (name, count, offset):
    return open ("$tmp/is-" + name, "rb").read ()[offset:offset + count]
def extents (h, count, offset):
    r = []
    h.block_status (count, offset, lambda c, o, e, err: r.extend (e))
    return r
PY
nbdsh -c - <<PY
exec (open ("$tmp/lib.py").read ())
h = connect ("one")
assert h.can_trim () and not h.is_read_only ()
# Less than a cluster, or parts of two: nothing.
h.trim (CS - 1, 0)
h.trim (CS, 1)
h.trim (2 * CS - 2, 1)
assert h.pread (3 * CS, 0) == old ("one", 3 * CS, 0)
# Rounded inwards.
h.trim (3 * CS, 4 * CS - 100)                   # 4 and 5
assert h.pread (CS, 3 * CS) == old ("one", CS, 3 * CS)
assert h.pread (CS, 6 * CS) == old ("one", CS, 6 * CS)
denied (h.pread, 1, 4 * CS)
denied (h.pread, 1, 6 * CS - 1)
denied (h.pread, 2, 4 * CS - 1)
assert extents (h, 2 * CS, 4 * CS)[:2] == [2 * CS, nbd.STATE_HOLE]
# Not to be undone, nor to be written; but the same again is no error.
h.trim (2 * CS, 4 * CS)
denied (h.pwrite, b"x", 4 * CS)
denied (h.pwrite, b"x", 0)
denied (h.zero, CS, 4 * CS)
denied (h.zero, CS, 0)
denied (h.pread, 1, 4 * CS)
# What is not copied yet.
h.trim (4 * CS, 20 * CS)
PY
[ "$(used one)" -eq $((1024 - 128)) ] || fail "after two clusters: $(used one)"
guest <<PY
h.pwrite (b"2" * 65536 * 4, 20 * 65536)
h.pwrite (b"2" * 65536, 24 * 65536)
PY
[ "$(used one)" -eq $((1024 - 128 + 64)) ] || fail "copied: $(used one)"
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['copied-clusters'] == 17 and
          j['snapshots'][0]['held-bytes'] == 15 * 65536"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }

# Two holds what one needs.
cp "$tmp/disk" "$tmp/is-two"
cbwctl create "$shm" two >/dev/null
guest <<PY
h.pwrite (b"3" * 65536 * 4, 26 * 65536)
PY
nbdsh -c - <<PY
exec (open ("$tmp/lib.py").read ())
one, two = connect ("one"), connect ("two")
two.trim (2 * CS, 26 * CS)
denied (two.pread, 1, 26 * CS)
assert one.pread (4 * CS, 26 * CS) == old ("one", 4 * CS, 26 * CS)
assert two.pread (2 * CS, 28 * CS) == old ("two", 2 * CS, 28 * CS)
PY
[ "$(used two)" -eq 256 ] || fail "one needs it: $(used two)"
nbdsh -c - <<PY
exec (open ("$tmp/lib.py").read ())
one, two = connect ("one"), connect ("two")
one.trim (3 * CS, 26 * CS)
denied (one.pread, 1, 28 * CS)
assert two.pread (2 * CS, 28 * CS) == old ("two", 2 * CS, 28 * CS)
PY
[ "$(used two)" -eq 128 ] || fail "nobody needs two of it: $(used two)"
# Dropped, it is hidden, and the rest goes with the last who needs it.
cbwctl drop "$shm" two >/dev/null
[ "$(used two)" -eq 64 ] || fail "one needs one: $(used two)"
nbdsh -c - <<PY
exec (open ("$tmp/lib.py").read ())
one = connect ("one")
assert one.pread (CS, 29 * CS) == old ("one", CS, 29 * CS)
one.trim (CS, 29 * CS)
PY
[ "$(used two)" -eq 0 ] || fail "nobody needs it: $(used two)"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }

# For good: also after a restart.  Without discard= trims are refused.
stop_server snap
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
nbdsh -c - <<PY
exec (open ("$tmp/lib.py").read ())
h = connect ("one")
assert h.is_read_only () and not h.can_trim ()
denied (h.pread, 1, 4 * CS)
assert h.pread (4 * CS, 0) == old ("one", 4 * CS, 0)
h.set_strict_mode (0)
denied (h.trim, CS, 0)
PY
# The disk itself has only what the guest wrote.
guest <<PY
assert h.pread (1024 * 1024, 0) == b"1" * 1024 * 1024
PY
