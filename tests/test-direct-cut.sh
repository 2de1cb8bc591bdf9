#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot is read directly while a newer one is taken and the guest writes
# all over the disk: no read gives what was written after the snapshot, though
# from that moment old data goes to the newer one alone.

. ./functions.sh
set -e

rounds=100
[ -z "${CBW_STRESS_SECONDS:-}" ] || rounds=1000
truncate -s 4M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=4k
start_snap "$shm" direct=auto

cat >"$tmp/test.py" <<PY
import nbd, struct, subprocess, threading, time

BLOCK, BLOCKS, PIECE = 4096, 1024, 65536
seq = 0                         # of the last write that was submitted
stop = False
wrong = []

def connect (uri):
    h = nbd.NBD ()
    h.connect_uri (uri)
    return h

def control (*args):
    subprocess.run (["$cbwctl", args[0], "$shm", *args[1:]], check=True,
                    stdout=subprocess.DEVNULL)

# Each block begins with the number of the write.
def write ():
    global seq
    h = connect ("$disk")
    flying = []
    n = 0
    while not stop:
        seq += 1
        n = (n + 397) % BLOCKS
        data = struct.pack ("<Q", seq) + bytes (BLOCK - 8)
        flying.append (h.aio_pwrite (
            nbd.Buffer.from_bytearray (bytearray (data)), n * BLOCK))
        while len (flying) > 8:
            h.poll (-1)
            flying = [c for c in flying if not h.aio_command_completed (c)]
    h.shutdown ()

# None of the view's may be later than the last that was submitted when the
# snapshot had been taken.
def read (name, last, until):
    h = connect ("nbd+unix:///%s?socket=$tmp/snap.sock" % name)
    at = 0
    while not until.is_set () and not wrong:
        data = h.pread (PIECE, at)
        for i in range (0, PIECE, BLOCK):
            n, = struct.unpack_from ("<Q", data, i)
            if n > last:
                wrong.append ("write %d at %d, after %d" % (n, at + i, last))
        at = (at + 7 * PIECE) % (BLOCK * BLOCKS)
    h.shutdown ()

writer = threading.Thread (target=write)
writer.start ()
for i in range ($rounds):
    control ("create", "base", "--target=$tmp/base.cow")
    last = seq
    until = threading.Event ()
    readers = [threading.Thread (target=read, args=("base", last, until))
               for n in range (2)]
    for t in readers: t.start ()
    control ("create", "newer", "--target=$tmp/newer.cow")
    time.sleep (0.005)          # some reads more; nothing waits for it
    until.set ()
    for t in readers: t.join ()
    control ("drop", "base")
    control ("drop", "newer")
    if wrong:
        break
stop = True
writer.join ()
assert not wrong, wrong[0]
assert seq > 10 * $rounds, "only %d writes" % seq
PY
"$PYTHON" "$tmp/test.py" || fail "a direct read across a cut"
[ "$(segment direct "$shm")" -gt 100 ] || fail "little was read directly"
