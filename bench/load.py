# SPDX-License-Identifier: BSD-3-Clause
"""The work: what guests and backup tools do to the servers.

Each function returns a dictionary of figures, its first the one that rows
compare; measured() adds the servers' CPU time and memory.
"""

import json
import subprocess
import time

MIB = 1024 * 1024
CLUSTER = 64 * 1024                     # QEMU's, and ours at most by default


def fio(lab, uri, rw, bs, iodepth, **options):
    """Run fio's nbd engine; the figures of its only job."""
    job = {"name": "j", "ioengine": "nbd", "uri": uri, "size": lab.size,
           "rw": rw, "bs": bs, "iodepth": iodepth, "output-format": "json",
           **options}
    out = subprocess.run(["fio", *(f"--{k}={v}" for k, v in job.items())],
                         check=True, capture_output=True, text=True,
                         cwd=lab.tmp).stdout
    result = json.loads(out[out.index("{"):])["jobs"][0]
    result = result["read" if rw in ("read", "randread") else "write"]
    figures = {"iops": result["iops"], "MiB": result["io_bytes"] / MIB}
    percentile = result["clat_ns"].get("percentile", {})
    for name, key in (("p50", "50.000000"), ("p99", "99.000000"),
                      ("p99.9", "99.900000")):
        figures[name] = percentile.get(key, 0) / 1000
    figures["max"] = result["clat_ns"]["max"] / 1000
    return figures


def measured(servers, work):
    """Run work; add the CPU seconds a GiB cost the servers, and memory."""
    before = servers.cpu_seconds()
    figures = work()
    if figures.get("MiB"):
        figures["cpu"] = ((servers.cpu_seconds() - before) /
                          (figures["MiB"] / 1024))
    figures["memory"] = servers.memory()
    return figures


def touch_all(lab, servers):
    """Write to every cluster once."""
    fio(lab, servers.disk, "write", "1M", 4)


def touch_half(lab, servers):
    """Write to half of the clusters, at random."""
    fio(lab, servers.disk, "randwrite", "64k", 16, io_size=lab.size // 2)


def touch_half_4k(lab, servers):
    """The same in pieces of 4k, where clusters are as small."""
    fio(lab, servers.disk, "randwrite", "4k", 16, io_size=lab.size // 2)


def writes(rw, bs, iodepth, first_touch):
    """A guest's writes.  For a first touch of 4k, one write in each 64k,
    which is QEMU's cluster, in random order.
    """
    def work(lab, servers):
        options = {"time_based": 1, "runtime": lab.args.seconds}
        if first_touch:
            options = {}
            if bs == "4k":
                clusters = lab.size // CLUSTER
                if iodepth == 1:
                    clusters //= 4
                options = {"blockalign": CLUSTER, "io_size": clusters * 4096}
        return measured(servers, lambda: fio(lab, servers.disk, rw, bs,
                                             iodepth, **options))
    return work


def nbdcopy(lab, servers, *args):
    """nbdcopy of a disk's size of data."""
    def copy():
        start = time.monotonic()
        subprocess.run(["nbdcopy", *args], check=True)
        size = lab.size / MIB
        return {"MiB/s": size / (time.monotonic() - start), "MiB": size}
    return measured(servers, copy)


def copy_view(lab, servers):
    return nbdcopy(lab, servers, servers.view, "null:")


def write_the_same(lab, servers):
    """Overwrite the disk with itself."""
    return nbdcopy(lab, servers, lab.image, servers.disk)


def read_view(queue):
    def work(lab, servers):
        return measured(servers, lambda: fio(
            lab, servers.view, "randread", "4k", queue, time_based=1,
            runtime=lab.args.seconds))
    return work


def latency(copying):
    """A guest that writes 4k at a steady rate, far from what the machine
    can do, and what it waits, with the view being copied or not.
    """
    def work(lab, servers):
        copies = []
        if copying:
            copies.append(subprocess.Popen(
                ["sh", "-c", 'while nbdcopy "$0" null:; do :; done',
                 servers.view], stderr=subprocess.DEVNULL,
                start_new_session=True))
        try:
            figures = fio(lab, servers.disk, "randwrite", "4k", 4,
                          time_based=1, runtime=lab.args.seconds,
                          rate_iops=lab.args.rate, rate_process="poisson")
        finally:
            for copy in copies:
                subprocess.run(["kill", "--", f"-{copy.pid}"])
                copy.wait()
        return {"p99": figures.pop("p99"), **figures}
    return work


def first_touches(lab, servers):
    """A guest that writes 4k at a steady rate, each to another cluster."""
    figures = fio(lab, servers.disk, "randwrite", "4k", 4,
                  blockalign=CLUSTER, rate_iops=lab.args.rate,
                  rate_process="poisson",
                  io_size=lab.args.rate * lab.args.seconds * 4096)
    return {"p99": figures.pop("p99"), **figures}


def hold_time(lab, servers):
    """How long create holds writes, with fio writing all the while."""
    guest = subprocess.Popen(
        ["fio", "--name=j", "--ioengine=nbd", f"--uri={servers.disk}",
         f"--size={lab.size}", "--rw=randwrite", "--bs=4k", "--iodepth=16",
         "--time_based", "--runtime=600"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=lab.tmp)
    held = []
    try:
        for _ in range(100):
            held.append(servers.ctl.create("held"))
            servers.ctl.drop("held")
    finally:
        guest.terminate()
        guest.wait()
    held.sort()
    return {"held": held[len(held) // 2], "max": held[-1]}
