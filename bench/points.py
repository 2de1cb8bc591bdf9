# SPDX-License-Identifier: BSD-3-Clause
"""Points: what marking guests' changes costs, and what increments take, ours
and QEMU's with dirty bitmaps.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import time

import load
from servers import MIB, Lab, Servers, nbd_uri

REGIONS = 64                            # of a disk of up to 4 GiB
PIECE = 64 * 1024


def with_point(_, servers):
    servers.ctl("checkpoint", "point")


def cold_writes(lab, servers):
    """One write of 4k to each region, the first since a flush."""
    region = lab.size // REGIONS
    return load.measured(servers, lambda: load.fio(
        lab, servers.disk, "randwrite", "4k", 1, blockalign=region,
        io_size=REGIONS * 4096))


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.file = self.socket.makefile("rw")
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        """Run a command, and wait for the reply."""
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.file.write(json.dumps({"execute": command,
                                    "arguments": arguments}))
        self.file.flush()
        for line in self.file:
            reply = json.loads(line)
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']}")
            if "return" in reply:
                return

    def job(self, command, **arguments):
        """The same of a job, until it is complete."""
        self(command, job_id="job", **arguments)
        for line in self.file:
            if json.loads(line).get("event") == "BLOCK_JOB_COMPLETED":
                return


@contextlib.contextmanager
def qemu(lab, persistent=False):
    """The storage daemon with a dirty bitmap, of 64k; a persistent one is in a
    qcow2 file whose data is the disk's.
    """
    sock, qmp = lab.path("q.sock"), lab.path("qmp.sock")
    image, meta = lab.path("image"), lab.path("meta.qcow2")
    with open(image, "wb") as f:
        f.truncate(lab.size)
    disk = ["--blockdev", f"file,node-name=file,filename={lab.image}"]
    if persistent:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o",
                        f"data_file={lab.image},data_file_raw=on", meta,
                        str(lab.size)], check=True)
        disk += ["--blockdev", f"file,node-name=meta,filename={meta}",
                 "--blockdev", "qcow2,node-name=disk,file=meta,"
                               "data-file=file"]
    name = "disk" if persistent else "file"
    try:
        with lab.server(
                sock, lab.args.qsd[0], *disk,
                "--blockdev", f"file,node-name=image,filename={image}",
                "--chardev", f"socket,id=qmp,path={qmp},server=on,wait=off",
                "--monitor", "chardev=qmp",
                "--nbd-server", f"addr.type=unix,addr.path={sock}",
                "--export", f"nbd,id=e0,node-name={name},name=disk,"
                            "writable=on") as proc:
            servers = Servers(nbd_uri(sock, "disk"), None, [proc])
            servers.qmp = Qmp(qmp)
            servers.qmp("block-dirty-bitmap-add", node=name, name="point",
                        granularity=PIECE, persistent=persistent)
            yield servers
    finally:
        lab.remove("image", "meta.qcow2")


# ---- One per cent of a large, sparse disk ----

GIB = 1 << 30


class Sparse:
    """A disk of 64 GiB with 2 GiB of data in pieces of 64k, and its server."""

    def __init__(self, lab, server):
        self.lab = Lab(lab.args, lab.tmp, 64 * GIB)
        self.lab.image = lab.path("sparse.img")
        self.server = server
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        self.lab.make_sparse_image()
        data = os.urandom(PIECE)
        with open(self.lab.image, "r+b") as f:
            for offset in range(0, self.lab.size, 32 * PIECE):
                f.seek(offset)
                f.write(data)
        self.servers = self.stack.enter_context(self.server(self.lab))
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)
        self.lab.remove("sparse.img", "image", "other")

    def change(self):
        """A guest changes one per cent."""
        random.seed(1)
        load.fio(self.lab, self.servers.disk, "randwrite", "64k", 16,
                 io_size=self.lab.size // 100 // PIECE * PIECE)


def ours(lab):
    return lab.cbw(snapshots=0, cluster_size=PIECE)


def seconds(work):
    start = time.monotonic()
    work()
    return {"s": time.monotonic() - start}


def base(_, sparse):
    """A full image, and then one per cent changes."""
    sparse.servers.ctl("backup", "base", f"--to={sparse.lab.path('image')}")
    sparse.change()


def base_qemu(_, sparse):
    # QEMU's own full backup would write 64 GiB, most of them zeroes.
    subprocess.run(["cp", "--sparse=always", sparse.lab.image,
                    sparse.lab.path("image")], check=True)
    sparse.servers.qmp("block-dirty-bitmap-clear", node="file", name="point")
    sparse.change()


def increment(_, sparse):
    return seconds(lambda: sparse.servers.ctl(
        "backup", "new", "--since=base", f"--to={sparse.lab.path('image')}"))


def full(_, sparse):
    return seconds(lambda: sparse.servers.ctl(
        "backup", "new", f"--to={sparse.lab.path('other')}"))


def pull(_, sparse):
    """qemu-img makes an overlay of the delta, as a user would."""
    lab = sparse.lab
    sparse.servers.ctl.create("new")
    uri = sparse.servers.view.replace("///?", "///base..new?")
    other, image = lab.path("other"), lab.path("image")
    return seconds(lambda: subprocess.run(
        ["qemu-img", "convert", "-O", "qcow2", "-B", image, "-F", "raw", uri,
         other], check=True))


def increment_qemu(_, sparse):
    return seconds(lambda: sparse.servers.qmp.job(
        "blockdev-backup", device="file", target="image", sync="incremental",
        bitmap="point"))


# ---- How long points take ----

def on_sparse(size, what, lab, _):
    """Make, drop and merge a point of a sparse disk, in milliseconds."""
    big = Lab(lab.args, lab.tmp, size)
    big.image = big.path("sparse.img")
    big.make_sparse_image()

    def ms(*command):
        start = time.monotonic()
        servers.ctl(*command)
        return (time.monotonic() - start) * 1000

    try:
        with big.cbw(snapshots=0, view=False) as servers:
            figures = {"checkpoint": ms("checkpoint", "a")}
            ms("checkpoint", "b")
            ms("checkpoint", "c")
            figures["merge"] = ms("drop", "b")
            figures["drop the newest"] = ms("drop", "c")
            figures["status"] = ms("status")
            return {what: figures.pop(what), **figures,
                    "memory": servers.memory()}
    finally:
        big.remove("sparse.img")
