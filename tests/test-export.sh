#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-export=NAME over a plugin with several exports (file dir=): that one
# is protected, from the first request on; the others pass, are writable
# and copy nothing.  The view works with any guest connected or none.
# It once crashed the server, which opened the plugin twice on behalf of
# one connection.

. ./functions.sh
set -e
requires qemu-nbd

mkdir "$tmp/disks"
for d in a b c; do
    random_file "$tmp/disks/$d" 1M
    cp "$tmp/disks/$d" "$tmp/original-$d"
done
a="nbd+unix:///a?socket=$tmp/disk.sock"
b="nbd+unix:///b?socket=$tmp/disk.sock"

start_disk file dir="$tmp/disks" \
           cbw-export=a cbw-shm="$shm" cbw-target="$tmp/target"

# Who only looks starts nothing, nor who looks at several in one go.
qemu-nbd -L -k "$tmp/disk.sock" >"$tmp/exports"
for d in a b c; do expect_in "$tmp/exports" "export: '$d'"; done
nbdinfo --size "$a" >/dev/null
absent "$shm" "$tmp/target"

nbdsh -u "$b" -c - <<PY
h.pwrite (b"b" * 300000, 1000)
h.zero (65536, 512 * 1024)
assert h.pread (300000, 1000) == b"b" * 300000
PY
absent "$shm" "$tmp/target"

# Two at once, over several connections, and each sees what it wrote.
nbdsh -c - <<PY
guests = [nbd.NBD () for i in range (4)]
for g in guests:
    g.connect_uri ("$a")
other = nbd.NBD ()
other.connect_uri ("$b")
old = open ("$tmp/original-a", "rb").read ()
assert guests[0].pread (len (old), 0) == old
for i, g in enumerate (guests):
    g.pwrite (b"%d" % i * 100000, i * 200000)
    other.pwrite (b"x" * 512, i * 1024)
for i in range (4):
    assert guests[3 - i].pread (100000, i * 200000) == b"%d" % i * 100000
for g in guests:
    g.shutdown ()
PY
[ -e "$tmp/target" ] || fail "there is no snapshot"

# No guest is connected now, and the first one's context still serves.
start_snap "$shm"
view_is "$tmp/original-a"
before=$(du -k "$tmp/target" | cut -f1)

# Others copy nothing.
nbdsh -u "$b" -c - <<PY
h.pwrite (b"B" * 1024 * 1024, 0)
PY
[ "$(du -k "$tmp/target" | cut -f1)" = "$before" ] || fail "b was copied"
view_is "$tmp/original-a"

# New guests are protected as the first was.
nbdsh -u "$a" -c - <<PY
h.pwrite (b"A" * 1024 * 1024, 0)
assert h.pread (1024 * 1024, 0) == b"A" * 1024 * 1024
PY
view_is "$tmp/original-a"

# Taken up again by the next server.
stop_server disk
start_disk file dir="$tmp/disks" \
           cbw-export=a cbw-shm="$shm" cbw-target="$tmp/target"
nbdsh -u "$a" -c - <<PY
h.pwrite (b"2" * 4096, 4096)
PY
stop_server snap
start_snap "$shm"
view_is "$tmp/original-a"
stop_server snap
stop_server disk

# The disks, plainly: untouched ones are as they were.
same "$tmp/disks/c" "$tmp/original-c"
[ "$(tr -d B <"$tmp/disks/b" | wc -c)" = 0 ] || fail "b is not what was written"

# A plugin that serves the same whatever the name: the named export only,
# here the default one.
rm "$shm" "$tmp/target"
start_disk file "$tmp/disks/c" cbw-export= cbw-shm="$shm" \
           cbw-target="$tmp/target"
guest <<PY
h.pwrite (b"c" * 65536, 0)
PY
start_snap "$shm"
view_is "$tmp/original-c"
