# SPDX-License-Identifier: BSD-3-Clause
"""Points and deltas, ours and those of a peer: QEMU's dirty bitmaps.

Ours and Peer have the same methods.  A point of the peer is a bitmap that is
enabled from that moment until the next point; a delta is the union of the
bitmaps from one point up to the next.  That is how checkpoints are made of
QEMU's bitmaps.  Names of points that begin with "b" are those of backups.
"""

import json
import subprocess
import time

import nbd

import qmp

CLUSTER = 65536


def connect(path, export="", context=nbd.CONTEXT_BASE_ALLOCATION):
    h = nbd.NBD()
    h.add_meta_context(context)
    h.set_export_name(export)
    h.connect_unix(path)
    return h


def clusters(h, context, changed):
    """The clusters whose flags in this context are those of a change."""
    found = set()
    size = h.get_size()
    offset = 0

    def extents(name, start, entries, err):
        nonlocal offset
        if name != context:
            return
        offset = start
        for length, flags in zip(entries[0::2], entries[1::2]):
            if changed(flags):
                found.update(range(offset // CLUSTER,
                                   -(-(offset + length) // CLUSTER)))
            offset += length

    while offset < size:
        h.block_status(size - offset, offset, extents)
    return found


def change(handles, ops):
    """Make these changes all at once; how many have failed.

    A change is what to do, where, and the bytes or how many.
    """
    cookies = []                # and what libnbd must find until it is done
    for i, (op, offset, data) in enumerate(ops):
        h = handles[i % len(handles)]
        if op == "write":
            buf = nbd.Buffer.from_bytearray(bytearray(data))
            cookies.append((h, h.aio_pwrite(buf, offset), buf))
        elif op == "zero":
            cookies.append((h, h.aio_zero(data, offset), None))
        elif op == "zero-data":
            flags = nbd.CMD_FLAG_NO_HOLE
            cookies.append((h, h.aio_zero(data, offset, flags=flags), None))
        else:
            cookies.append((h, h.aio_trim(data, offset), None))
    failed = 0
    for h, cookie, _ in cookies:
        try:
            while not h.aio_command_completed(cookie):
                h.poll(-1)
        except nbd.Error as e:
            assert e.errno == "EIO", e
            failed += 1
    return failed


class Ours:
    """The filter's server at "disk", the plugin's at "snap"."""

    def __init__(self, cbwctl, shm, disk, snap):
        self.cbwctl, self.shm = cbwctl, shm
        self.disk, self.snap = disk, snap
        self.connect()

    def ctl(self, *args):
        return subprocess.run([self.cbwctl, *args], check=True,
                              stdout=subprocess.PIPE).stdout

    def connect(self):
        self.handles = [connect(self.disk) for i in range(2)]

    def change(self, ops):
        return change(self.handles, ops)

    def snapshot(self, name):
        self.ctl("create", self.shm, name)

    def checkpoint(self, name):
        self.ctl("checkpoint", self.shm, name)

    def keep_checkpoint(self, name):
        """The snapshot goes, and its point stays."""
        self.ctl("drop", self.shm, name, "--keep-checkpoint")

    def drop(self, name):
        self.ctl("drop", self.shm, name)

    def delta(self, a, b):
        h = connect(self.snap, "%s..%s" % (a, b))
        return clusters(h, nbd.CONTEXT_BASE_ALLOCATION,
                        lambda flags: flags != nbd.STATE_HOLE)

    def backup(self, name, since, image):
        """How many bytes have changed since; None for a full one."""
        args = ["--since=" + since] if since else []
        j = json.loads(self.ctl("backup", self.shm, name, "--to=" + image,
                                "--json", *args))
        assert j["mode"] == ("incremental" if since else "full"), j
        return j["changed-bytes"] if since else None


class Peer:
    """A qemu-storage-daemon, whose node "disk" is the export of that name."""

    def __init__(self, disk, monitor, size):
        self.disk = disk
        self.qmp = qmp.Qmp(monitor)
        self.size = size
        self.points = []        # the oldest first
        self.connect()

    def connect(self):
        self.handles = [connect(self.disk, "disk") for i in range(2)]

    def change(self, ops):
        return change(self.handles, ops)

    def checkpoint(self, name):
        actions = [("block-dirty-bitmap-add",
                    {"node": "disk", "name": name, "granularity": CLUSTER})]
        if self.points:
            actions.append(("block-dirty-bitmap-disable",
                            {"node": "disk", "name": self.points[-1]}))
        self.qmp.run("transaction",
                     actions=[{"type": t, "data": d} for t, d in actions])
        self.points.append(name)

    # A bitmap knows nothing of data.
    snapshot = checkpoint

    def keep_checkpoint(self, name):
        pass

    def drop(self, name):
        i = self.points.index(name)
        if i > 0:
            older = self.points[i - 1]
            if i == len(self.points) - 1:
                self.qmp.run("block-dirty-bitmap-enable", node="disk",
                             name=older)
            self.qmp.run("block-dirty-bitmap-merge", node="disk",
                         target=older, bitmaps=[name])
        self.qmp.run("block-dirty-bitmap-remove", node="disk", name=name)
        self.points.remove(name)

    def union(self, a, b):
        """A bitmap "delta" for a while."""
        between = self.points[self.points.index(a):self.points.index(b)]
        self.qmp.run("block-dirty-bitmap-add", node="disk", name="delta",
                     granularity=CLUSTER, disabled=True)
        self.qmp.run("block-dirty-bitmap-merge", node="disk", target="delta",
                     bitmaps=between)

    def delta(self, a, b):
        self.union(a, b)
        self.add_export("delta", bitmaps=["delta"])
        context = "qemu:dirty-bitmap:delta"
        h = connect(self.disk, "delta", context)
        found = clusters(h, context, lambda flags: flags & 1)
        h.shutdown()
        self.remove_export("delta")
        self.qmp.run("block-dirty-bitmap-remove", node="disk", name="delta")
        return found

    def backup(self, name, since, image):
        self.checkpoint(name)
        with open(image, "a") as f:
            f.truncate(self.size)
        self.qmp.run("blockdev-add", **{"driver": "file", "filename": image,
                                        "node-name": "image"})
        if since:
            self.union(since, name)
            how = {"sync": "bitmap", "bitmap": "delta", "bitmap-mode": "never"}
        else:
            how = {"sync": "full"}
        self.qmp.run("blockdev-backup", **{
            "device": "disk", "target": "image", "job-id": "job",
            "auto-dismiss": False, **how})
        self.until(lambda: self.job()["status"] == "concluded")
        assert "error" not in self.job(), self.job()
        self.qmp.run("job-dismiss", id="job")
        self.qmp.run("blockdev-del", **{"node-name": "image"})
        if not since:
            return None
        self.qmp.run("block-dirty-bitmap-remove", node="disk", name="delta")
        return self.bytes_of(self.delta(since, name))

    def bytes_of(self, found):
        return sum(min(CLUSTER, self.size - c * CLUSTER) for c in found)

    def job(self):
        return self.qmp.run("query-jobs")[0]

    def until(self, done):
        while not done():
            time.sleep(0.01)

    def add_export(self, name, **how):
        self.qmp.run("block-export-add", **{
            "type": "nbd", "id": name, "name": name, "node-name": "disk",
            **how})

    def remove_export(self, name):
        self.qmp.run("block-export-del", id=name, mode="hard")
        self.until(lambda: all(x["id"] != name for x in
                               self.qmp.run("query-block-exports")))

    def grow(self, size):
        """QEMU resizes no disk that is exported."""
        for h in self.handles:
            h.shutdown()
        self.remove_export("disk")
        self.qmp.run("block_resize", **{"node-name": "disk", "size": size})
        self.add_export("disk", writable=True)
        self.size = size
        self.connect()
