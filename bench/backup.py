# SPDX-License-Identifier: BSD-3-Clause
"""Backups that the server itself makes, ours and QEMU's, with a guest that
writes at random all the while: how fast, and what the guest gets.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import time

from servers import MIB, Servers, nbd_uri


@contextlib.contextmanager
def busy_guest(lab, uri):
    """fio writes; yields a function which tells its IOPS between two times,
    and ends it.
    """
    log = lab.path("busy")
    fio = subprocess.Popen(
        ["fio", "--name=j", "--ioengine=nbd", f"--uri={uri}",
         f"--size={lab.size}", "--rw=randwrite", "--bs=4k", "--iodepth=16",
         "--time_based", "--runtime=600", f"--write_iops_log={log}",
         "--log_avg_msec=20", "--log_unix_epoch=1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=lab.tmp)

    def iops(start, end):
        fio.send_signal(2)
        fio.wait()
        with open(f"{log}_iops.1.log") as f:
            samples = [line.split(",")[:2] for line in f]
        inside = [int(n) for ms, n in samples
                  if start * 1000 <= int(ms) <= end * 1000 + 20]
        return statistics.mean(inside) if inside else 0

    try:
        time.sleep(1)
        yield iops
    finally:
        fio.kill()
        fio.wait()


def timed(lab, uri, what, work):
    with busy_guest(lab, uri) as iops:
        start = time.time()
        work()
        end = time.time()
        figures = {"MiB/s": lab.size / MIB / (end - start),
                   "iops": iops(start, end)}
    os.unlink(lab.path("image"))
    return {what: figures.pop(what), **figures}


def push(what, lab, servers):
    return timed(lab, servers.disk, what, lambda: servers.ctl(
        "backup", f"--to={lab.path('image')}"))


@contextlib.contextmanager
def qemu_server(lab):
    sock, qmp = lab.path("q.sock"), lab.path("qmp.sock")
    with open(lab.path("image"), "wb") as f:
        f.truncate(lab.size)
    with lab.server(
            sock, lab.args.qsd[0],
            "--blockdev", f"file,node-name=disk,filename={lab.image}",
            "--blockdev", f"file,node-name=image,filename={lab.path('image')}",
            "--chardev", f"socket,id=qmp,path={qmp},server=on,wait=off",
            "--monitor", "chardev=qmp",
            "--nbd-server", f"addr.type=unix,addr.path={sock}",
            "--export", "nbd,id=e0,node-name=disk,name=disk,"
                        "writable=on") as proc:
        yield Servers(nbd_uri(sock, "disk"), None, [proc])


def push_qemu(what, lab, servers):
    """QEMU's blockdev-backup, told by QMP."""
    def backup():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(lab.path("qmp.sock"))
            f = s.makefile("rw")
            for command, arguments in (
                    ("qmp_capabilities", {}),
                    ("blockdev-backup", {"job-id": "j", "device": "disk",
                                         "target": "image",
                                         "sync": "full"})):
                f.write(json.dumps({"execute": command,
                                    "arguments": arguments}))
                f.flush()
            for line in f:
                if json.loads(line).get("event") == "BLOCK_JOB_COMPLETED":
                    return

    return timed(lab, servers.disk, what, backup)
