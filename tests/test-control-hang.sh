#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A server that accepts connections and says nothing is named as a target, nine
# times at once: more than there are service threads.  Readers, guests and other
# control requests go on.
set -e
. ./functions.sh

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-threads=4
start_snap "$shm"
launch_server silent "$PYTHON" -c "
import socket
s = socket.socket (socket.AF_UNIX)
s.bind ('$tmp/silent.sock')
s.listen (100)
c = []
while True:
    c.append (s.accept ())
"
silent_there () { [ -S "$tmp/silent.sock" ]; }
wait_for 10 silent_there || fail "the silent server"
cbwctl backup "$shm" slow --to="$tmp/image" --speed=4k --detach >/dev/null

# Exports of different names, as one is the target of one snapshot.
for i in 1 2 3 4 5 6 7 8 9; do
    cbwctl create "$shm" hangs$i --target="nbd+unix:///$i?socket=$tmp/silent.sock" >/dev/null 2>&1 &
done
# All of them are with the server: none waits to be taken.
running ()
{
    cbwctl status "$shm" --json |
        json "j['requests']['running'] >= 9" 2>/dev/null
}
wait_for 20 running || fail "the requests are not run"

reader <<PY
import time
start = time.monotonic ()
assert h.pread (1 << 20, 0) == open ("$tmp/original", "rb").read (1 << 20)
assert time.monotonic () - start < 5
PY
guest <<PY
import time
start = time.monotonic ()
h.pwrite (b"1" * 1000000, 65536)
assert time.monotonic () - start < 5
PY
view_is "$tmp/original"
# This one needs no target.
timeout 10 "$cbwctl" backup "$shm" slow --pause || fail "pause"
cbwctl status "$shm" --json |
    json "any (s.get ('job', {}).get ('status') == 'paused'
               for s in j['snapshots'])"

kill "$(server_pid silent)"
wait "$(server_pid silent)" 2>/dev/null || :
forget_server silent
stop_server disk
