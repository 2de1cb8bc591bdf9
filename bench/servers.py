# SPDX-License-Identifier: BSD-3-Clause
"""The peers: servers of one disk and of its snapshot, ours and others'.

Each peer is a context manager which yields a Servers: the guest's URI, the
view's, and the processes, whose CPU time and memory are read before they
end.  Every use starts fresh servers with a fresh target.
"""

import contextlib
import json
import mmap
import os
import subprocess
import sys
import time

MIB = 1024 * 1024


def nbd_uri(socket, export=""):
    return f"nbd+unix:///{export}?socket={socket}"


class Servers:
    def __init__(self, disk, view, procs, ctl=None):
        self.disk = disk
        self.view = view
        self.procs = procs
        self.ctl = ctl                  # cbwctl with the segment, or None

    def cpu_seconds(self):
        """CPU time the servers have used so far."""
        ticks = 0
        for proc in self.procs:
            with open(f"/proc/{proc.pid}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Largest anonymous and mapped memory so far, MiB."""
        kib = 0
        for proc in self.procs:
            with open(f"/proc/{proc.pid}/status") as f:
                kib += sum(int(line.split()[1]) for line in f
                           if line.startswith("VmHWM:"))
        return kib / 1024


class Ctl:
    """cbwctl on one segment."""

    def __init__(self, program, shm, targets):
        self.program = program
        self.shm = shm
        self.targets = targets          # prefix of the targets' names

    def __call__(self, command, *args):
        return subprocess.run([self.program, command, self.shm, *args],
                              check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    def create(self, name, *args, target=None):
        """Take a snapshot; how long writes were held, in microseconds."""
        out = self("create", name, "--json",
                   f"--target={target or self.targets + name}", *args)
        return json.loads(out)["held-ns"] / 1000

    def drop(self, *names):
        self("drop", *names)


class Lab:
    """A directory with a disk in it, and the peers which serve that."""

    def __init__(self, args, tmp, size):
        self.args = args
        self.tmp = tmp
        self.size = size                # bytes
        self.cluster_size = args.cluster_size * 1024 # 0: the default
        built = args.builddir
        self.filter = f"{built}/filters/cbw/.libs/nbdkit-cbw-filter.so"
        self.plugin = (f"{built}/plugins/snapshot-access/.libs/"
                       "nbdkit-snapshot-access-plugin.so")
        self.cbwctl = f"{built}/tools/cbwctl/cbwctl"
        self.bare_filter = f"{built}/bench/.libs/bare-filter.so"
        for f in (self.filter, self.plugin, self.cbwctl, self.bare_filter):
            if not os.path.exists(f):
                sys.exit(f"bench: {f} does not exist: build first, "
                         "or give --builddir")
        self.image = self.path("disk.img")

    def path(self, name):
        return os.path.join(self.tmp, name)

    def make_image(self):
        """A disk full of data, so that nothing profits from zeroes."""
        block = os.urandom(4 * MIB)
        with open(self.image, "wb") as f:
            for _ in range(self.size // len(block)):
                f.write(block)

    def make_sparse_image(self):
        with open(self.image, "wb") as f:
            f.truncate(self.size)

    def warm_memory(self):
        """Take as much memory as a target needs, and give it back.  What
        the kernel has left unused for a while may have gone back to a
        virtual machine's host, and whoever then takes it first pays several
        times what copying it costs.
        """
        with mmap.mmap(-1, self.size * 5 // 4, flags=mmap.MAP_PRIVATE) as m:
            for page in range(0, len(m), mmap.PAGESIZE):
                m[page] = 1

    def remove(self, *names):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(name))

    @contextlib.contextmanager
    def server(self, socket, *command):
        """Run a server until it serves the socket, and stop it after."""
        with open(self.path("server.log"), "w") as log:
            proc = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 20
            while not os.path.exists(socket):
                if proc.poll() is not None or time.monotonic() > deadline:
                    with open(self.path("server.log")) as log:
                        sys.exit(f"bench: {command[0]}: {log.read()}")
                time.sleep(0.002)
            yield proc
        finally:
            proc.terminate()
            proc.wait()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(socket)

    def nbdkit(self, socket, *args):
        return self.server(socket, self.args.nbdkit, "-f", "-t",
                           str(self.args.nbdkit_threads), "-U", socket, *args)

    @contextlib.contextmanager
    def plain(self):
        """nbdkit's file plugin alone: the ceiling."""
        sock = self.path("d.sock")
        with self.nbdkit(sock, "file", self.image) as proc:
            yield Servers(nbd_uri(sock), nbd_uri(sock), [proc])

    @contextlib.contextmanager
    def bare(self, cluster_size=None):
        """A filter that copies before each write, and does nothing else:
        the ceiling of what copies first.  Its clusters are ours, which are
        of 4k for disks as small as these.
        """
        sock, target = self.path("d.sock"), self.path("bare-target")
        cs = cluster_size or self.cluster_size or 4096
        with open(target, "wb") as f:
            f.truncate(self.size)
        try:
            with self.nbdkit(sock, f"--filter={self.bare_filter}", "file",
                             self.image, f"bare-target={target}",
                             f"bare-cluster-size={cs}") as proc:
                yield Servers(nbd_uri(sock), None, [proc])
        finally:
            self.remove("bare-target")

    @contextlib.contextmanager
    def cbw(self, *params, snapshots=1, cluster_size=None, below=(),
            view=True, target=None, direct=True):
        """Ours, with so many snapshots.  "below" replaces the plugin,
        "target" the files.
        """
        disk, snap = self.path("d.sock"), self.path("v.sock")
        shm = self.path("shm")
        cs = cluster_size or self.cluster_size
        if cs:
            params += (f"cbw-cluster-size={cs}",)
        ctl = Ctl(self.cbwctl, shm, self.path("target-"))
        names = [f"s{i}" for i in range(snapshots)]
        try:
            with contextlib.ExitStack() as stack:
                procs = [stack.enter_context(self.nbdkit(
                    disk, f"--filter={self.filter}",
                    *(below or ("file", self.image)), f"cbw-shm={shm}",
                    *params))]
                for name in names:
                    ctl.create(name, target=target)
                if view:
                    procs.append(stack.enter_context(
                        self.nbdkit(snap, self.plugin, shm,
                                    *(() if direct else ("direct=off",)))))
                yield Servers(nbd_uri(disk), nbd_uri(snap), procs, ctl)
        finally:
            self.remove("shm", *(f"target-{name}" for name in names))

    def qemu(self, filters=1, program=None):
        """QEMU's own fleecing, with the same disk and raw targets, in
        clusters of 64k, its smallest.
        """
        targets = [f"qtarget{i}" for i in range(filters)]
        for target in targets:
            with open(self.path(target), "wb") as f:
                f.truncate(self.size)
        return self.qemu_on([f"file,filename={self.path(t)}"
                             for t in targets], targets, program)

    @contextlib.contextmanager
    def qemu_on(self, targets, files=(), program=None):
        """The same; targets are the options of their nodes, and files are
        removed afterwards.
        """
        sock = self.path("q.sock")
        command = [program or self.args.qsd[0], "--blockdev",
                   f"file,node-name=cbw0,filename={self.image}"]
        for i, target in enumerate(targets):
            command += [
                "--blockdev", f"{target},node-name=target{i}",
                "--blockdev", f"copy-before-write,node-name=cbw{i + 1},"
                              f"file=cbw{i},target=target{i}"]
        filters = len(targets)
        view = []
        if filters:
            command += ["--blockdev", "snapshot-access,node-name=view,"
                                      f"file=cbw{filters}"]
            view = ["--export", "nbd,id=e1,node-name=view,name=view"]
        command += ["--nbd-server", f"addr.type=unix,addr.path={sock}",
                    "--export", f"nbd,id=e0,node-name=cbw{filters},"
                                "name=disk,writable=on"] + view
        try:
            with self.server(sock, *command) as proc:
                yield Servers(nbd_uri(sock, "disk"), nbd_uri(sock, "view"),
                              [proc])
        finally:
            self.remove(*files)

    @contextlib.contextmanager
    def target_server(self, delay=None):
        """A target in another process's memory, where each write takes so
        long.
        """
        sock = self.path("t.sock")
        slow = (["--filter=delay", f"wdelay={delay}"] if delay else [])
        with self.nbdkit(sock, *slow[:1], "memory", str(self.size),
                         *slow[1:]):
            yield sock

    @contextlib.contextmanager
    def cbw_nbd(self, *params, delay=None):
        with self.target_server(delay) as sock, \
             self.cbw(*params, target=nbd_uri(sock), view=False) as servers:
            yield servers

    @contextlib.contextmanager
    def qemu_nbd(self, delay=None):
        with self.target_server(delay) as sock, \
             self.qemu_on([f"nbd,server.type=unix,server.path={sock}"]) \
             as servers:
            yield servers

    def make_qcow2(self):
        qcow2 = self.path("target.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2,
                        str(self.size)], check=True)
        return qcow2

    @contextlib.contextmanager
    def cbw_qcow2(self):
        qcow2 = self.make_qcow2()
        with self.cbw(target=f"[ qemu-nbd -f qcow2 {qcow2} ]",
                      view=False) as servers:
            yield servers
        self.remove(qcow2)

    def qemu_qcow2(self):
        qcow2 = self.make_qcow2()
        return self.qemu_on(["qcow2,file.driver=file,file.filename=" + qcow2],
                            [qcow2])
