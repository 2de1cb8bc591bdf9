#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A guest's write waits for a copy to a target that hangs.  No snapshot can
# be taken or dropped then: the request fails and says why, and leaves
# nothing behind.  Meanwhile other guests' reads and writes go through.

. ./functions.sh
set -e

random_file "$tmp/disk" 16M
cp "$tmp/disk" "$tmp/old"
truncate -s 16M "$tmp/image"
start_nbdkit target file "$tmp/image"
start_disk --filter=log file "$tmp/disk" cbw-shm="$shm" \
           cbw-cluster-size=64k logfile="$tmp/requests"
cbwctl create "$shm" other --target="$tmp/other.cow" >/dev/null
cbwctl create "$shm" s --target="nbd+unix:///?socket=$tmp/target.sock" \
       >/dev/null
guest <<PY
h.pwrite (b"1" * 65536, 0)              # needs no copy from now on
PY
kill_server target STOP

cat >"$tmp/test.py" <<PY
import nbd, subprocess, threading, time

LIMIT = 3                               # seconds; what it takes is far less

def connect ():
    h = nbd.NBD ()
    h.connect_uri ("$disk")
    return h

# The copy has begun when the old data has been read.
def begun ():
    return " Read " in [line[line.find (" Read "):][:6]
                        for line in open ("$tmp/requests")
                        if "offset=0x800000 " in line]
stuck = connect ()
cookie = stuck.aio_pwrite (nbd.Buffer.from_bytearray (b"2" * 4096), 8 << 20)
while not begun ():
    stuck.poll (20)

longest, changes, stop, wrong = 0.0, 0, False, []
def other_guest ():
    global longest, changes
    h = connect ()
    while not stop:
        start = time.monotonic ()
        if changes % 2:
            h.pread (4096, 12 << 20)
        else:
            h.pwrite (b"%d" % (changes // 2 % 10) * 4096, changes % 8 * 4096)
        longest = max (longest, time.monotonic () - start)
        changes += 1
    h.shutdown ()
thread = threading.Thread (target=other_guest)
thread.start ()

def refused (*args):
    before = changes
    start = time.monotonic ()
    try:
        r = subprocess.run (["$cbwctl", *args], timeout=20,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except subprocess.TimeoutExpired:
        wrong.append ("%s does not end" % args[0])
        return
    took = time.monotonic () - start
    text = r.stderr.decode ()
    print (text, end="")
    if r.returncode != 1 or r.stdout or "wait" not in text:
        wrong.append ("%s: status %d" % (args[0], r.returncode))
    if took > LIMIT:
        wrong.append ("%s took %.1f s" % (args[0], took))
    if changes < before + 3:
        wrong.append ("%s stopped the other guest" % args[0])

for i in range (3):
    if wrong:
        break
    refused ("create", "$shm", "new", "--target=$tmp/new.cow")
    refused ("drop", "$shm", "other")
    refused ("backup", "$shm", "b", "--to=$tmp/b.img")
stop = True
subprocess.run (["kill", "-CONT", "$(server_pid target)"], check=True)
thread.join ()
if longest > LIMIT:
    wrong.append ("the other guest was held for %.1f s" % longest)
while not stuck.aio_command_completed (cookie):
    stuck.poll (-1)
assert not wrong, wrong
PY
"$PYTHON" "$tmp/test.py" || fail "beside a copy that hangs"

# Nothing was half done, and now it works.
states other=live s=live
absent "$tmp/new.cow" "$tmp"/*b.img*
start_snap "$shm"
for name in other s; do
    view_is "$tmp/old" "nbd+unix:///$name?socket=$tmp/snap.sock"
done
cp "$tmp/disk" "$tmp/is-new"
cbwctl create "$shm" new --target="$tmp/new.cow" >/dev/null
guest <<PY
h.pwrite (b"3" * 1000000, 7 << 20)
PY
view_is "$tmp/is-new" "nbd+unix:///new?socket=$tmp/snap.sock"
cbwctl drop "$shm" other >/dev/null
view_is "$tmp/old" "nbd+unix:///s?socket=$tmp/snap.sock"
stop_server snap
cbwctl drop "$shm" new s >/dev/null
stop_server disk
