#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The kernel tells a client that reads directly that what was written to the
# target is lost.  The client does not believe what it has read, and a server
# that takes over, which the kernel does not tell any more, breaks the snapshot.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/old"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
guest <<<"h.pwrite (b'1' * 1048576, 0)"
target_faults "$tmp/target"
start_snap "$shm" direct=auto
preload=
view_is "$tmp/old"
[ "$(segment direct "$shm")" -gt 0 ] || fail "it was not read directly"
[ "$(segment get "$shm" lost.0)" -eq 0 ] || fail "lost?"

# Only the plugin has been told so far: the server reads it once more.
cat >"$tmp/read.py" <<PY
old = open ("$tmp/old", "rb").read ()
assert h.pread (65536, 0) == old[:65536]
with open ("$CBW_TARGET_FAULT", "w") as f:
    f.write ("lost 5")
assert h.pread (65536, 0) == old[:65536]
PY
nbdsh -u "$snap" -c - <"$tmp/read.py"
[ "$(segment get "$shm" lost.0)" -eq "$(segment get "$shm" entry.id)" ] ||
    fail "the next server will not know"

kill_server disk KILL
start_disk file "$tmp/disk" cbw-shm="$shm"
states snapshot=broken
cbwctl status "$shm" | grep -q "target is gone or was changed" ||
    fail "$(cbwctl status "$shm")"
