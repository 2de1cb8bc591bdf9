# SPDX-License-Identifier: BSD-3-Clause
# Sourced by tests in which a guest writes what is there already, and the write
# fails below, after functions.sh.  Writes to $tmp/disk, of 4000000 bytes,
# fail and leave rubbish while there is a file $tmp/disk.torn.  The disk and the
# plugin are served.

cat >"$tmp/test.py" <<PY
import errno, nbd, os, random, subprocess, threading

seed = int (os.environ.get ("CBW_STRESS_SEED", "1"))
size = 4000000
torn = "$tmp/disk.torn"         # while it is there, writes are torn

def connect (uri):
    h = nbd.NBD ()
    h.connect_uri (uri)
    return h
def control (*args):
    subprocess.run (["$cbwctl", args[0], "$shm", *args[1:]], check=True,
                    stdout=subprocess.DEVNULL)
# The old bytes, or an error: then the snapshot is broken.
def look (view, old, count, offset):
    try:
        got = view.pread (count, offset)
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
        return False
    if got != old[offset:offset + count]:
        i = [a != b for a, b in zip (got, old[offset:])].index (True)
        raise AssertionError ("seed %d: byte %d of the snapshot is %#x, "
                              "not %#x" % (seed, offset + i, got[i],
                                           old[offset + i]))
    return True

guest = connect ("$disk")
def random_range ():
    count = rnd.choice ([1, 512, 8192, 9000, 16384, 20000, 70000, 300000])
    offset = rnd.randrange (size - count)
    if rnd.random () < 0.5:
        offset -= offset % 16384
    return count, offset

def round (policy):
    old = guest.pread (size, 0)
    control ("create", "s", "--target=$tmp/s.cow", "--on-error=" + policy)
    wrong, stop = [], threading.Event ()
    def reader (n):
        view = connect ("nbd+unix:///s?socket=$tmp/snap.sock")
        mine = random.Random (seed * 100 + n)
        try:
            while not stop.is_set ():
                offset = mine.randrange (size - 1)
                if not look (view, old, min (200000, size - offset), offset):
                    break
        except AssertionError as e:
            wrong.append (e)
        view.shutdown ()
    threads = [threading.Thread (target=reader, args=(n,), daemon=True)
               for n in range (2)]
    for t in threads: t.start ()
    view = connect ("nbd+unix:///s?socket=$tmp/snap.sock")
    for i in range (40):
        count, offset = random_range ()
        now = guest.pread (count, offset)
        if rnd.random () < 0.3:         # it changed before
            now = os.urandom (count)
            guest.pwrite (now, offset)
        with open (torn + ".new", "w") as f:
            f.write ("torn %d" % errno.EIO)
        os.rename (torn + ".new", torn)
        try:
            guest.pwrite (now, offset)
            assert False, "a torn write succeeded"
        except nbd.Error as e:
            assert e.errnum == errno.EIO, e
        os.unlink (torn)
        look (view, old, count, offset)
        # The guest tries again, then writes something else.
        guest.pwrite (now, offset)
        look (view, old, count, offset)
        if rnd.random () < 0.5:
            guest.pwrite (os.urandom (count), offset)
        if not look (view, old, size, 0) or wrong:
            break
    stop.set ()
    for t in threads: t.join ()
    assert not wrong, wrong[0]
    view.shutdown ()
    control ("drop", "s")

rnd = random.Random (seed)
for i in range (3):
    round ("break-guest-write")
    round ("break-snapshot")
guest.shutdown ()
PY
"$PYTHON" "$tmp/test.py" || fail "after a write that failed"
cbwctl check "$shm" >/dev/null
