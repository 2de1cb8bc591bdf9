# SPDX-License-Identifier: BSD-3-Clause
"""On what, and of what, a run's figures are."""

import os
import platform
import re
import subprocess


def first_line(*command):
    out = subprocess.run(command, capture_output=True, text=True)
    return (out.stdout or out.stderr).split("\n")[0].strip()


def cpu_model():
    with open("/proc/cpuinfo") as f:
        found = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    return found.group(1) if found else platform.machine()


def machine():
    """What must be the same for absolute figures to be compared."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": cpu_model(), "cpus": os.cpu_count(),
            "memory-GiB": round(pages / (1 << 30)),
            "kernel": platform.release()}


def file_system(directory):
    return first_line("findmnt", "-n", "-o", "FSTYPE", "-T", directory)


def versions(args):
    found = {"nbdkit": first_line(args.nbdkit, "--version"),
             "nbdcopy": first_line("nbdcopy", "--version"),
             "fio": first_line("fio", "--version")}
    for i, program in enumerate(args.qsd):
        found[f"qemu {i + 1}" if i else "qemu"] = first_line(program,
                                                             "--version")
    return found
