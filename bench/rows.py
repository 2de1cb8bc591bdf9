# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: every row is some work, done by ours and by peers."""

import dataclasses
import functools
import os
import subprocess
import time
from typing import Callable, Optional

import backup
import load
import points
from servers import MIB, Lab

KIB = 1024


@dataclasses.dataclass
class Series:
    """One of the bars of a row: a peer, and what it has to do."""
    name: str
    peer: Callable                      # of a Lab: context manager
    work: Callable                      # (lab, servers): the figures
    prepare: Optional[Callable] = None  # (lab, servers), not measured

    def measure(self, lab):
        with self.peer(lab) as servers:
            if self.prepare:
                self.prepare(lab, servers)
            lab.warm_memory()
            return self.work(lab, servers)


@dataclasses.dataclass
class Row:
    """The first series is ours.  Floors are the ratios to peers, by name,
    that ours is to reach: at least, or at most if less is better.  The p99
    of some peers is shown, too; it may be so many times theirs, or None.
    """
    section: str
    title: str
    unit: str
    series: list
    floors: dict = dataclasses.field(default_factory=dict)
    more_is_better: bool = True
    p99: dict = dataclasses.field(default_factory=dict)


def ours(*params, **options):
    return lambda lab: lab.cbw(*params, **options)


def qemu(**options):
    return lambda lab: lab.qemu(**options)


def qemus(args, work, prepare=None):
    """Every storage daemon that was named."""
    return [Series(f"qemu {n}" if n > 1 else "qemu", qemu(program=program),
                   work, prepare) for n, program in enumerate(args.qsd, 1)]


WRITES = (                              # rw, block size, queue, name
    ("randwrite", "4k", 1, "4k random, queue 1"),
    ("randwrite", "4k", 16, "4k random, queue 16"),
    ("randwrite", "64k", 16, "64k random"),
    ("write", "1M", 4, "1M sequential"),
)
FIRST_TOUCH_FLOORS = ({"qemu": 3}, {"qemu": 5, "bare": 0.93},
                      {"qemu": 2, "bare": 0.93}, {"qemu": 2.5})
FIRST_TOUCH_P99 = (None, 1.15, 1.15, None) # of the bare filter's, at most


def bare(work, **options):
    return Series("bare", lambda lab: lab.bare(**options), work)


def write_rows(args):
    for i, (rw, bs, queue, name) in enumerate(WRITES):
        steady = load.writes(rw, bs, queue, False)
        first = load.writes(rw, bs, queue, True)
        yield Row("guest writes", f"{name}, no snapshot", "IOPS", [
            Series("cbw", ours(snapshots=0, view=False), steady),
            Series("nbdkit", Lab.plain, steady),
            Series("qemu", qemu(filters=0), steady)], {"nbdkit": 0.98})
        yield Row("guest writes", f"{name}, first touch", "IOPS", [
            Series("cbw", ours(), first), *qemus(args, first), bare(first)],
            FIRST_TOUCH_FLOORS[i], p99={"bare": FIRST_TOUCH_P99[i]})
        yield Row("guest writes", f"{name}, all copied", "IOPS", [
            Series("cbw", ours(), steady, load.touch_all),
            Series("nbdkit", Lab.plain, steady, load.touch_all),
            Series("qemu", Lab.qemu, steady, load.touch_all)],
            {"nbdkit": 0.98})
    yield Row("guest writes", "nbdcopy of what is there already, first touch",
              "MiB/s", [Series("cbw", ours(), load.write_the_same),
                        *qemus(args, load.write_the_same)])


def latency_rows(args):
    alone, copied = load.latency(False), load.latency(True)
    yield Row("what a guest waits", "p99 of a 4k write, view being copied",
              "us", [Series("cbw", ours(), copied, load.touch_all),
                     Series("cbw, asked", ours(direct=False), copied,
                            load.touch_all),
                     Series("cbw alone", ours(), alone, load.touch_all),
                     *qemus(args, copied, load.touch_all),
                     Series("qemu alone", Lab.qemu, alone, load.touch_all),
                     Series("nbdkit alone", Lab.plain, alone)],
              {"cbw alone": 1.5, "qemu": 0.5}, more_is_better=False)
    yield Row("what a guest waits", "p99 of a 4k first touch, view being "
              "copied", "us", [Series("cbw", ours(), copied),
                               Series("cbw alone", ours(), alone),
                               *qemus(args, copied),
                               Series("qemu alone", Lab.qemu, alone),
                               Series("bare alone", Lab.bare, alone)],
              {"cbw alone": 1.5, "qemu": 0.5}, more_is_better=False)
    yield Row("what a guest waits", "for create, under load (median)", "us",
              [Series("cbw", ours(snapshots=0, view=False), load.hold_time)],
              more_is_better=False)


VIEWS = (                               # name, prepare, nbdcopy's floor
    ("untouched", None, 1.0),
    ("all copied", load.touch_all, 0.97),
    ("half copied at random in 64k", load.touch_half, 0.97),
    ("half copied at random in 4k", load.touch_half_4k, 0.8),
)


def view_series(args, work, prepare):
    """Ours, ours without direct reads, the disk without a filter, QEMU."""
    return [Series("cbw", ours(), work, prepare),
            Series("cbw, asked", ours(direct=False), work, prepare),
            Series("nbdkit", Lab.plain, work),
            *qemus(args, work, prepare)]


def view_rows(args):
    for name, prepare, floor in VIEWS:
        yield Row("the view", f"nbdcopy, {name}", "MiB/s",
                  view_series(args, load.copy_view, prepare),
                  {"nbdkit": floor, "qemu": 1.0})
    for name, prepare, _ in VIEWS:
        yield Row("the view", f"4k random reads, queue 16, {name}", "IOPS",
                  view_series(args, load.read_view(16), prepare),
                  {"nbdkit": 0.95, "qemu": 2})
    yield Row("the view", "4k random reads, queue 1", "IOPS",
              view_series(args, load.read_view(1), None), {"nbdkit": 0.9})


def chain_rows(args):
    first = load.writes("randwrite", "4k", 16, True)
    for n in (4, 8, 16, 64):
        yield Row("many snapshots", f"4k first touch, {n} snapshots", "IOPS",
                  [Series("cbw", ours(snapshots=n, view=False), first),
                   Series("one", ours(view=False), first),
                   *([Series("qemu", qemu(filters=4), first)]
                     if n == 4 else []), bare(first)], {"one": 0.9},
                  p99={"bare": None})


def cluster_rows(args):
    for kib in (4, 16, 32, 64, 256, 1024):
        cs = kib * KIB
        touch = load.writes("randwrite", "4k", 16, True)
        sequential = load.writes("write", "1M", 4, True)
        yield Row("cluster sizes", f"4k in every 64k, clusters of {kib}k",
                  "IOPS", [
                      Series("cbw", ours(cluster_size=cs, view=False),
                             touch),
                      Series("qemu", Lab.qemu, touch),
                      bare(touch, cluster_size=cs)], p99={"bare": None})
        yield Row("cluster sizes", f"1M sequential, clusters of {kib}k",
                  "IOPS", [
                      Series("cbw", ours(cluster_size=cs, view=False),
                             sequential),
                      Series("qemu", Lab.qemu, sequential),
                      bare(sequential, cluster_size=cs)],
                  p99={"bare": None})
        yield Row("cluster sizes", f"nbdcopy of the view, half copied, "
                  f"clusters of {kib}k", "MiB/s", [
                      Series("cbw", ours(cluster_size=cs), load.copy_view,
                             load.touch_half),
                      Series("qemu", Lab.qemu,
                             load.copy_view, load.touch_half)])


def target_rows(args):
    for rw, bs, queue, name in WRITES:
        first = load.writes(rw, bs, queue, True)
        yield Row("other targets", f"{name}, first touch, NBD target", "IOPS",
                  [Series("cbw", Lab.cbw_nbd, first),
                   Series("cbw, file", ours(view=False), first),
                   Series("qemu", Lab.qemu_nbd, first)], {"qemu": 1})
        yield Row("other targets", f"{name}, first touch, qcow2 target",
                  "IOPS", [Series("cbw", Lab.cbw_qcow2, first),
                           Series("qemu", Lab.qemu_qcow2, first)],
                  {"qemu": 1})


BUFFER = "cbw-writeback=64M"


def writeback_rows(args):
    """Does a guest wait for a slow target?  And what does the buffer cost
    where the target is fast?
    """
    paced = load.first_touches
    yield Row("write-back of 64 MiB", "p99 of a 4k first touch, a write to "
              "the target takes 5 ms", "us", [
                  Series("cbw", lambda lab: lab.cbw_nbd(BUFFER, delay="5ms"),
                         paced),
                  Series("cbw, none", lambda lab: lab.cbw_nbd(delay="5ms"),
                         paced),
                  Series("qemu", lambda lab: lab.qemu_nbd(delay="5ms"),
                         paced),
                  Series("nbdkit", Lab.plain, paced)], more_is_better=False)
    for rw, bs, queue, name in WRITES:
        first = load.writes(rw, bs, queue, True)
        yield Row("write-back of 64 MiB", f"{name}, first touch", "IOPS", [
            Series("cbw", ours(BUFFER, view=False), first),
            Series("cbw, none", ours(view=False), first), bare(first)],
            p99={"bare": None})


def backup_rows(args):
    """A backup that the server itself makes, with a guest writing."""
    for title, unit, what in (("speed", "MiB/s", "MiB/s"),
                              ("the guest meanwhile", "IOPS", "iops")):
        yield Row("push backup, 4k random writes", title, unit, [
            Series("cbw", ours(snapshots=0, view=False),
                   functools.partial(backup.push, what)),
            Series("qemu", backup.qemu_server,
                   functools.partial(backup.push_qemu, what))],
            {"qemu": 1})


def timed_ms(work):
    start = time.monotonic()
    work()
    return (time.monotonic() - start) * 1000


def sparse_disk(lab, size, what):
    """Something on a sparse disk of "size" bytes, in milliseconds."""
    big = Lab(lab.args, lab.tmp, size)
    big.image = big.path("sparse.img")
    big.make_sparse_image()
    try:
        start = time.monotonic()
        with big.cbw(snapshots=0, view=False) as servers:
            subprocess.run(["nbdinfo", "--size", servers.disk], check=True,
                           stdout=subprocess.DEVNULL)
            figures = {"start": (time.monotonic() - start) * 1000}
            figures["create"] = timed_ms(lambda: servers.ctl.create("s"))
            figures["status"] = timed_ms(lambda: servers.ctl("status"))
            figures["segment"] = (os.stat(servers.ctl.shm).st_blocks * 512 /
                                  MIB)
            figures["drop"] = timed_ms(lambda: servers.ctl.drop("s"))
            return {what: figures.pop(what), **figures,
                    "memory": servers.memory()}
    finally:
        big.remove("sparse.img")


def size_rows(args):
    for gib in (1, 64, 1024, 16 * 1024, 64 * 1024):
        name = f"{gib} GiB" if gib < 1024 else f"{gib // 1024} TiB"
        for what in ("start", "create", "drop", "status"):
            yield Row("sparse disks", f"{what}, {name}", "ms", [
                Series("cbw", lambda lab: NoServers(),
                       functools.partial(sparse_one, gib << 30, what))],
                more_is_better=False)


def point_rows(args):
    """What it costs that guests' changes are marked, without a snapshot; and
    with cbw-durable, for which --dir must be on a disk.
    """
    marked = ours(snapshots=0, view=False)
    durable = ours("cbw-durable=on", snapshots=0, view=False)
    on_disk = [Series("durable", durable, None, points.with_point),
               Series("qemu, kept", lambda lab: points.qemu(lab, True), None)]
    for rw, bs, queue, name in WRITES:
        series = [
            Series("cbw", marked, None, points.with_point),
            Series("off", ours("cbw-track=off", snapshots=0, view=False),
                   None),
            Series("nbdkit", Lab.plain, None),
            Series("qemu", points.qemu, None), *(on_disk if args.durable
                                                 else [])]
        for s in series:
            s.work = load.writes(rw, bs, queue, False)
        yield Row("changes are marked", name, "IOPS", series, {"off": 0.98})
    if args.durable:
        yield Row("changes are marked", "4k, first write to each region",
                  "IOPS", [
                      Series("cbw", durable, points.cold_writes,
                             points.with_point),
                      Series("not durable", marked, points.cold_writes,
                             points.with_point),
                      Series("qemu, kept", lambda lab: points.qemu(lab, True),
                             points.cold_writes)])


def increment_rows(args):
    def on(server):
        return lambda lab: points.Sparse(lab, server)

    yield Row("1 % of 64 GiB has changed", "a new backup", "s", [
        Series("cbw", on(points.ours), points.increment, points.base),
        Series("full", on(points.ours), points.full, points.base),
        Series("qemu-img", on(points.ours), points.pull, points.base),
        Series("qemu", on(points.qemu), points.increment_qemu,
               points.base_qemu)], more_is_better=False)
    for gib in (1024, 64 * 1024):
        for what in ("checkpoint", "merge", "drop the newest"):
            yield Row("points", f"{what}, {gib // 1024} TiB", "ms", [
                Series("cbw", lambda lab: NoServers(), functools.partial(
                    points.on_sparse, gib << 30, what))],
                more_is_better=False)


class NoServers:
    """For work which starts its own servers."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def sparse_one(size, what, lab, _):
    return sparse_disk(lab, size, what)


SECTIONS = {
    "writes": write_rows,
    "latency": latency_rows,
    "view": view_rows,
    "chain": chain_rows,
    "clusters": cluster_rows,
    "backup": backup_rows,
    "targets": target_rows,
    "writeback": writeback_rows,
    "sizes": size_rows,
    "points": point_rows,
    "increments": increment_rows,
}
