#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create with targets that cannot be, with and without --force: the
# disk itself by any name, the segment, another snapshot's target, files
# that are locked or no files, places that are not there or not writable.
# All refused with the reason; nothing has changed, no file is left.

. ./functions.sh
set -e

mkdir "$tmp/dir"
random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
ln "$tmp/disk" "$tmp/dir/hard"
ln -s "$tmp/disk" "$tmp/dir/symbolic"
ln -s nowhere "$tmp/dir/dangling"
echo precious >"$tmp/dir/precious"
mkfifo "$tmp/dir/fifo"
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl create "$shm" other >/dev/null
cbwctl create "$shm" hidden >/dev/null
cbwctl drop "$shm" hidden >/dev/null
state ()
{
    find "$tmp/dir" "$tmp"/*.cow -printf '%p %i %s %l\n' | sort
}
state >"$tmp/before"

# bad MESSAGE TARGET [--force]
bad ()
{
    cbwctl_fails 1 "$1" create "$shm" new --target="$2" ${3:+"$3"}
    state >"$tmp/after"
    same "$tmp/before" "$tmp/after"
    cbwctl status "$shm" --json |
        json "[s['name'] for s in j['snapshots']] == ['other', 'hidden']"
}

here="is in use by this server, as its disk, its segment or another target"
for target in "$tmp/disk" "$tmp/dir/hard" "$shm" "$tmp/other.cow" \
              "$(echo "$tmp"/hidden.cow.dropped-*)"; do
    bad "$target: $here" "$target"
    bad "$target: $here" "$target" --force
done
bad "must be a regular file" "$tmp/dir/symbolic"
bad "must be a regular file" "$tmp/dir/symbolic" --force
bad "must be a regular file" "$tmp/dir/dangling" --force
for target in "$tmp/dir" /dev/null "$tmp/dir/fifo"; do
    bad "$target: " "$target"
    bad "must be a regular file" "$target" --force
done
bad "exists and is not empty" \
    "$tmp/dir/precious"
bad "No such file or directory" "$tmp/nowhere/target"
bad "Not a directory" "$tmp/disk/target"
bad "cannot create the target" /proc/target
bad "file name is empty" ""
bad "cannot be longer than 1023 bytes" "/$(printf '%01100d' 0)"
bad "File name too long" "$tmp/$(printf '%0300d' 0)"

# Open in another program, which has it locked too.
"$PYTHON" - "$tmp/dir/precious" "$tmp/locked" "$tmp/done" <<'PY' &
import fcntl, os, struct, sys, time
f = open (sys.argv[1], "r+")
fcntl.lockf (f, fcntl.LOCK_EX)
open (sys.argv[2], "w").close ()
while not os.path.exists (sys.argv[3]):
    time.sleep (0.05)
PY
locker=$!
locked () { [ -e "$tmp/locked" ]; }
wait_for 30 locked
bad "or by another program" "$tmp/dir/precious" --force
touch "$tmp/done"
wait $locker
[ "$(cat "$tmp/dir/precious")" = precious ] || fail "overwritten"

# A server that is not root cannot write everywhere.
if [ "$(id -u)" -ne 0 ]; then
    chmod 555 "$tmp/dir"
    bad "Permission denied" "$tmp/dir/target"
    chmod 755 "$tmp/dir"
fi

# The disk works, and what is allowed does too.
cbwctl create "$shm" new --target="$tmp/dir/precious" --force >/dev/null
guest <<PY
h.pwrite (b"x" * 65536, 0)
PY
start_snap "$shm"
view_is "$tmp/original"
