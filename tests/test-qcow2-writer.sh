#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Internal snapshots come and go while QEMU writes to the image and resizes
# the disk, and clients read them: each has the bytes and the size that the
# disk had, or was deleted.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

qemu-img create -q -f qcow2 -o cluster_size=4k "$tmp/disk.qcow2" 3M
start_writer "$tmp/disk.qcow2"
start_snap qcow2="$tmp/disk.qcow2"

cat >"$tmp/model.py" <<PY
import errno, nbd, os, random, sys, threading
sys.path.insert (0, "$top_srcdir/tests")
import qmp

random.seed (7)
monitor = qmp.Qmp ("$tmp/qmp")
size = 3 << 20
now = bytearray (size)
saved = {}                      # of each snapshot that is there: its bytes
history = {}                    # of each name: the bytes of all its lives

def connect_guest ():
    global guest
    guest = nbd.NBD ()
    guest.connect_unix ("$tmp/disk.sock")

def write (n):
    for i in range (n):
        count = random.choice ([512, 4096, 10000, 65536])
        offset = random.randrange (0, size - count)
        if random.random () < 0.2:
            guest.zero (count, offset)
            now[offset:offset + count] = bytes (count)
        else:
            data = random.randbytes (count)
            guest.pwrite (data, offset)
            now[offset:offset + count] = data

# An exported disk cannot be resized.
def resize (bytes_now):
    global size
    guest.shutdown ()
    monitor.run ("block-export-del", id="export", mode="hard")
    while monitor.run ("query-block-exports"):
        pass
    monitor.run ("block_resize", **{"node-name": "disk", "size": bytes_now})
    monitor.run ("block-export-add", type="nbd", id="export", name="",
                 writable=True, **{"node-name": "disk"})
    size = bytes_now
    now.extend (bytes (size - len (now)))
    connect_guest ()

def create (name):
    history.setdefault (name, []).append (bytes (now))
    monitor.run ("blockdev-snapshot-internal-sync", device="disk", name=name)
    saved[name] = bytes (now)

def delete (name):
    del saved[name]
    monitor.run ("blockdev-snapshot-delete-internal-sync", device="disk",
                 name=name)

def view (name):
    h = nbd.NBD ()
    h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
    h.set_export_name (name)
    h.connect_unix ("$tmp/snap.sock")
    return h

def check (h, data):
    assert h.get_size () == len (data), (h.get_size (), len (data))
    got = h.pread (len (data), 0)
    assert got == data
    # What is said to be zeroes is.
    offset = 0
    def extent (context, start, entries, err):
        nonlocal offset
        for length, flags in zip (entries[0::2], entries[1::2]):
            if flags & nbd.STATE_ZERO:
                assert not any (data[offset:offset + length])
            offset += length
    while offset < len (data):
        h.block_status (len (data) - offset, offset, extent)

# Readers without pause: right bytes, or gone.
stop = False
failures = []
reads = [0, 0]
def reader (seed):
    r = random.Random (seed)
    while not stop:
        name = r.choice (list (saved) or ["none"])
        try:
            h = view (name)
        except nbd.Error:
            continue            # deleted just now
        try:
            for i in range (r.randrange (1, 30)):
                count = r.choice ([512, 65536, 300000])
                offset = r.randrange (0, h.get_size () - count)
                got = h.pread (count, offset)
                if not any (data[offset:offset + count] == got
                            for data in history[name]):
                    failures.append ((name, offset, count))
                reads[0] += 1
        except nbd.Error as e:
            if e.errnum != errno.ESHUTDOWN:
                failures.append ((name, str (e)))
            reads[1] += 1

connect_guest ()
threads = [threading.Thread (target=reader, args=(i,), daemon=True) for i in range (3)]
write (50)
for name in "ab":
    create (name)
for t in threads:
    t.start ()
held = {}
for i in range (30):
    write (30)
    action = random.random ()
    name = random.choice ("abcdef")
    if action < 0.15 and size < 9 << 20:
        resize (size + random.choice ([512, 65536, 1 << 20]))
    elif name in saved:
        check (view (name), saved[name])
        h = held.pop (name, None)
        if h:
            check (h, saved[name])
        h = view (name)
        delete (name)
        if random.random () < 0.5:
            create (name)       # of the same name, and perhaps id
        try:
            h.pread (65536, 0)
            assert False, "a snapshot that was deleted could be read"
        except nbd.Error as e:
            assert e.errnum == errno.ESHUTDOWN, e
    else:
        create (name)
        held[name] = view (name)
    for other, h in list (held.items ()):
        if other in saved and random.random () < 0.3:
            offset = random.randrange (0, len (saved[other]) - 4096)
            assert h.pread (4096, offset) == saved[other][offset:offset+4096]
stop = True
for t in threads:
    t.join ()
assert not failures, failures[:3]
assert reads[0] > 100, reads

for name, data in saved.items ():
    check (view (name), data)
PY
timeout 100 "$PYTHON" "$tmp/model.py"

nothing_left
stop_server disk
qemu-img check -q -f qcow2 "$tmp/disk.qcow2"
