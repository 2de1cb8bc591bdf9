#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The same changes, points and backups, here and with QEMU's dirty bitmaps in a
# qemu-storage-daemon: the same deltas, at 64 KiB.
#
# QEMU marks less in two cases.  When its disk grows, what is new is in no
# bitmap; here it is in each delta from an earlier point.  If a write to another
# server fails, with EIO for instance, it may still be under way there and land
# later.  Both mark it when it fails; the filter marks it after each later
# point, too.  QEMU never marks more.
#
# Not compared: a trim that QEMU ignores, as it does unless the node has
# discard=unmap, changes nothing and is not marked.  nbdkit passes trims on.

. ./functions.sh
set -e
requires qemu-storage-daemon nbdinfo
requires_plugin nbd

# start_peer OPTIONS...: a daemon that exports its node "disk", which the
# options put over the node "file".
start_peer ()
{
    local file=driver=file,node-name=file,discard=unmap
    start_server peer qemu-storage-daemon \
        --blockdev "$file,filename=$tmp/peer" "$@" \
        --chardev socket,id=qmp,path="$tmp/qmp",server=on,wait=off \
        --monitor chardev=qmp \
        --nbd-server addr.type=unix,addr.path="$tmp/peer.sock" \
        --export type=nbd,id=disk,node-name=disk,name=disk,writable=on
}

# both SIZE: two disks of the same bytes.
both ()
{
    rm -f "$tmp/disk" "$tmp/peer"
    random_file "$tmp/disk" $(($1 / 2))
    truncate -s "$1" "$tmp/disk"
    cp --sparse=always "$tmp/disk" "$tmp/peer"
}

# compare SIZE: run what stdin says, with "ours" and "peer".
compare ()
{
    tmp=$tmp shm=$shm cbwctl=$cbwctl size=$1 \
    PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -c '
import bitmaps, os, random, sys
from os import environ as env
tmp, size = env["tmp"], int (env["size"])
C = bitmaps.CLUSTER
ours = bitmaps.Ours (env["cbwctl"], env["shm"],
                     tmp + "/disk.sock", tmp + "/snap.sock")
peer = bitmaps.Peer (tmp + "/peer.sock", tmp + "/qmp", size)
both = ours, peer
def changes (ops):
    return [x.change (ops) for x in both]
def same (a, b):
    with open (a, "rb") as f, open (b, "rb") as g:
        assert f.read () == g.read (), a
exec (sys.stdin.read ())'
}

stop_all ()
{
    stop_server snap
    stop_server disk
    stop_server peer
}

# ---- Random changes, many at once; points come and go ----

size=$((160 * 65536 + 5 * 512))
both $size
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
start_peer --blockdev driver=raw,node-name=disk,file=file,discard=unmap
seed=${CBW_TEST_SEED:-$RANDOM}
echo "seed $seed"
{ echo "seed = $seed"; cat <<'PY'; } | compare $size
rng = random.Random (seed)

def random_op ():
    op = rng.choice (("write", "write", "zero", "zero-data", "trim"))
    # Near the edges of clusters, where rounding goes wrong.
    offset = max (0, min (size - 1, rng.randrange (161) * C +
                          rng.choice ((0, 0, -1, 1, -512, 4096, C - 1))))
    count = rng.choice ((1, 2, 512, 4096, C - 1, C, C + 1, 5000, 3 * C + 7))
    count = min (count, size - offset)
    if op != "write":
        return op, offset, count
    if rng.randrange (4) == 0:
        # The bytes that are there already: a change all the same.
        return op, offset, ours.handles[0].pread (count, offset)
    return op, offset, rng.randbytes (count)

def compare_all ():
    pairs = 0
    for j, b in enumerate (peer.points):
        if b not in live:
            continue
        for a in peer.points[:j + 1]:
            mine = ours.delta (a, b)
            theirs = peer.delta (a, b) if a != b else set ()
            assert not theirs - mine, ("missing", a, b, sorted (theirs - mine))
            assert not mine - theirs, ("more", a, b, sorted (mine - theirs))
            pairs += 1
    return pairs

live, last, pairs, backups = [], None, 0, 0
# The image can only be marked where there are extended attributes.
try:
    os.setxattr (tmp + "/disk", "user.test", b"")
    marks = True
except OSError:
    marks = False
for step in range (40):
    ops = [random_op () for i in range (rng.randrange (8))]
    assert changes (ops) == [0, 0]
    what = rng.choice (("snapshot", "snapshot", "checkpoint", "drop", "drop",
                        "keep"))
    if step % 9 == 4:
        what = "backup"
    name = "p%d" % step
    if what == "snapshot" and len (live) < 6:
        for x in both: x.snapshot (name)
        live.append (name)
    elif what == "checkpoint":
        for x in both: x.checkpoint (name)
    elif what == "drop" and len (peer.points) > 3:
        # A backup counts from the last one.
        name = rng.choice ([p for p in peer.points if p != last])
        for x in both: x.drop (name)
        if name in live: live.remove (name)
    elif what == "keep" and live:
        name = live.pop (rng.randrange (len (live)))
        for x in both: x.keep_checkpoint (name)
    elif what == "backup" and marks:
        name = "b%d" % step
        mine = ours.backup (name, last, tmp + "/image")
        theirs = peer.backup (name, last, tmp + "/peer-image")
        assert mine == theirs, (name, last, mine, theirs)
        same (tmp + "/image", tmp + "/disk")
        same (tmp + "/peer-image", tmp + "/peer")
        last = name
        backups += 1
    else:
        continue
    pairs += compare_all ()
for x in both: x.snapshot ("end")
live.append ("end")
pairs += compare_all ()
print ("%d deltas and %d backups compared" % (pairs, backups))
assert pairs > 20
PY
stop_all

# ---- What grows ----

size=$((20 * 65536 + 512))
both $size
rm -f "$shm"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
start_peer --blockdev driver=raw,node-name=disk,file=file,discard=unmap
compare $size <<'PY'
for x in both: x.checkpoint ("small")
assert changes ([("write", 3 * C, b"x")]) == [0, 0]
size = 30 * C
os.truncate (tmp + "/disk", size)
peer.grow (size)
for x in both: x.snapshot ("large")
assert peer.delta ("small", "large") == {3}
assert ours.delta ("small", "large") == {3} | set (range (20, 30))
# From there on they are alike again.
ours.connect ()
assert changes ([("write", 29 * C - 1, b"xx"), ("trim", 25 * C, C)]) == [0, 0]
for x in both: x.snapshot ("later")
for x in both: assert x.delta ("large", "later") == {25, 28, 29}
PY
stop_all

# ---- Requests that fail ----

# QEMU's fail where they touch one sector; nbdkit's, while there is a file.
bad=$((10 * 65536))
both $size
rm -f "$shm"
start_server below "$NBDKIT" -f -U "$tmp/below.sock" --filter=error \
             file "$tmp/disk" error=EIO error-file="$tmp/bad" error-rate=0% \
             error-pwrite-rate=100% error-zero-rate=100% error-trim-rate=100%
start_disk nbd socket="$tmp/below.sock" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
rules=
i=0
for type in write write-zeroes discard; do
    rules=$rules,inject-error.$i.event=none,inject-error.$i.iotype=$type
    rules=$rules,inject-error.$i.errno=5,inject-error.$i.sector=$((bad / 512))
    i=$((i + 1))
done
start_peer --blockdev \
           driver=blkdebug,node-name=bad,image=file,discard=unmap$rules \
           --blockdev driver=raw,node-name=disk,file=bad,discard=unmap
compare $size <<'PY'
suspects = set ()
for op, offset, data, failed in (
        ("write", 10 * C - 1, bytes (C), {9, 10}),
        ("zero", 10 * C, C, {10}),
        ("trim", 8 * C + 512, 3 * C, {8, 9, 10, 11})):
    for x in both: x.checkpoint ("before-" + op)
    assert changes ([("write", 2 * C, b"x")]) == [0, 0]
    open (tmp + "/bad", "w").close ()
    r = changes ([(op, offset, data)])
    os.remove (tmp + "/bad")
    assert r == [1, 1], (op, r)
    for x in both: x.snapshot ("after-" + op)
    theirs = peer.delta ("before-" + op, "after-" + op)
    assert theirs == {2} | failed, (op, theirs)
    mine = ours.delta ("before-" + op, "after-" + op)
    assert mine == theirs | suspects, (op, mine)
    # Nothing more is changed; but it may land now.
    suspects |= failed
    for x in both: x.snapshot ("quiet-" + op)
    assert peer.delta ("after-" + op, "quiet-" + op) == set ()
    mine = ours.delta ("after-" + op, "quiet-" + op)
    assert mine == suspects, (op, mine)
    same (tmp + "/disk", tmp + "/peer")
PY
stop_all
stop_server below
