#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The disk grows while it is served: the next snapshot, and backup, has its
# size at that moment, whether or not a client has connected since.  They had
# the size that it had when the server started.

. ./functions.sh
set -e

# An odd end, so that the last cluster grows too.
random_file "$tmp/disk" 1000001
cp "$tmp/disk" "$tmp/is-small"
grow ()
{
    random_file "$tmp/more" "$1"
    cat "$tmp/more" >>"$tmp/disk"
}
view ()
{
    view_is "$tmp/is-$1" "nbd+unix:///$1?socket=$tmp/snap.sock"
}
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k

# A guest that connected before it grew, and stays; it is told to write.
cat >"$tmp/old-guest.py" <<PY
import os, time
def wait (name):
    while not os.path.exists ("$tmp/" + name):
        time.sleep (0.02)
h.pread (1, 0)
open ("$tmp/connected", "w")
for turn in "1", "2":
    wait ("write" + turn)
    # The last bytes that it knows of, in a cluster that goes on behind them.
    h.pwrite (turn.encode () * 1001, 1000001 - 1001)
    assert h.pread (1001, 1000001 - 1001) == turn.encode () * 1001
    open ("$tmp/written" + turn, "w")
PY
nbdsh -u "$disk" -c - <"$tmp/old-guest.py" &
old_guest=$!
wait_for 30 test -e "$tmp/connected" || fail "the old guest is not connected"
old_writes ()
{
    touch "$tmp/write$1"
    wait_for 30 test -e "$tmp/written$1" || fail "the old guest cannot write"
}

cbwctl create "$shm" small >/dev/null
# Nobody connects: the filter itself must look.
grow 1500000
cp "$tmp/disk" "$tmp/is-larger"
cbwctl create "$shm" larger >/dev/null
old_writes 1
# A new client sees and changes what the filter has not seen yet.
grow 2500000
guest <<PY
assert h.get_size () == 5000001
h.pwrite (b"n" * 300000, 4000000)
h.pwrite (b"o" * 300000, 900000)
PY
cp "$tmp/disk" "$tmp/is-largest"
cbwctl create "$shm" largest >/dev/null
cbwctl backup "$shm" full --to="$tmp/image" >/dev/null
same "$tmp/image" "$tmp/is-largest"

old_writes 2
wait $old_guest || fail "the old guest failed"
guest <<PY
size = h.get_size ()
h.pwrite (b"e" * 700000, size - 700000)
h.zero (1500000, 800000)
h.trim (size, 0)
PY
start_snap "$shm"
for name in small larger largest; do view $name; done
cbwctl status "$shm" --json | json "
    [s['virtual-size'] for s in j['snapshots'] if s['state'] == 'live'] ==
    [1000001, 2500001, 5000001]"
cbwctl check "$shm" >/dev/null

# It shrinks: that is said, and nothing is left.
truncate -s 3000000 "$tmp/disk"
cbwctl_fails 1 "the disk has shrunk from 5000001 to 3000000 bytes" \
             create "$shm" never --target="$tmp/never"
absent "$tmp/never"
truncate -s 5000001 "$tmp/disk"
cbwctl create "$shm" again >/dev/null
stop_server snap

# All is as it was for the next server.
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
for name in small larger largest; do view $name; done
