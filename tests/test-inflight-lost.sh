#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A guest's connection to the server on which the disk is ends while a write
# is under way there, which lands after a snapshot was taken: that does not
# change.

. ./functions.sh
set -e
requires_plugin python nbd

random_file "$tmp/file" 2M
start_nbdkit source python "$top_srcdir/tests/held-disk.py" disk="$tmp/file"

# Between the two: hands on what it gets, but when $tmp/cut is there ends the
# connection on the filter's side over which a write of "NNNN" has come, and
# keeps it open on the other.
cat >"$tmp/proxy.py" <<PY
import os, socket, threading, time
def hand_on (a, b, marked):
    while True:
        data = a.recv (65536)
        if not data:
            break
        if marked and b"NNNN" in data:
            marked.set ()
        b.sendall (data)
    b.shutdown (socket.SHUT_WR)
def quietly (*args):
    try:
        hand_on (*args)
    except OSError:
        pass
def serve (client):
    server = socket.socket (socket.AF_UNIX)
    server.connect ("$tmp/source.sock")
    marked = threading.Event ()
    for args in (client, server, marked), (server, client, None):
        threading.Thread (target=quietly, args=args, daemon=True).start ()
    marked.wait ()
    while not os.path.exists ("$tmp/cut"):
        time.sleep (0.01)
    client.shutdown (socket.SHUT_RDWR)
    kept.append (server)
kept = []
l = socket.socket (socket.AF_UNIX)
l.bind ("$tmp/proxy.sock")
l.listen (50)
while True:
    threading.Thread (target=serve, args=(l.accept ()[0],), daemon=True).start ()
PY
"$PYTHON" "$tmp/proxy.py" &
wait_for 30 test -S "$tmp/proxy.sock" || fail "there is no proxy"

start_disk nbd uri="nbd+unix:///?socket=$tmp/proxy.sock" \
           cbw-shm="$shm" cbw-cluster-size=64k
cbwctl create "$shm" old >/dev/null
cp "$tmp/file" "$tmp/original"
touch "$tmp/file.hold"
guest <<PY &
try:
    h.pwrite (b"N" * 4096, 70000)
except nbd.Error:
    open ("$tmp/failed", "w")
PY
wait_for 30 test -e "$tmp/file.held.70000" || fail "nothing is under way"
touch "$tmp/cut"
wait_for 30 test -e "$tmp/failed" || fail "the guest's write has not failed"
cbwctl create "$shm" new >/dev/null
start_snap "$shm"
view_is "$tmp/original"
rm "$tmp/file.hold"
landed () { [ "$(tail -c +70001 "$tmp/file" | head -c 1)" = N ]; }
wait_for 30 landed || fail "the write has not landed"
for name in old new; do
    view_is "$tmp/original" "nbd+unix:///$name?socket=$tmp/snap.sock"
done

# What the source refuses, and what succeeds, leaves nothing behind.
guest <<PY
h.pwrite (b"x" * 4096, 500000)
PY
cp "$tmp/file" "$tmp/now"
cbwctl create "$shm" newest >/dev/null
cbwctl status "$shm" --json | json "
    [s['copied-clusters'] for s in j['snapshots'] if s['name'] == 'newest'] ==
    [1]"
view_is "$tmp/now" "nbd+unix:///newest?socket=$tmp/snap.sock"
stop_server snap
stop_server disk
