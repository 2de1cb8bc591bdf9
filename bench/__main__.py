# SPDX-License-Identifier: BSD-3-Clause
"""Measure nbdkit-cbw beside its peers, in one run on one machine."""

import argparse
import datetime
import os
import shutil
import sys
import tempfile

import machine
import plots
import report
import rows
from servers import MIB, Lab

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_args():
    p = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__,
        epilog="bench/README.md says what is measured, and how.")
    p.add_argument("--builddir", default=TOP, help="where it was built")
    p.add_argument("--dir", action="append",
                   help="where the disks are; more than once: measure in "
                        "each (default: /dev/shm)")
    p.add_argument("--sections", default=",".join(rows.SECTIONS),
                   help="of: %(default)s")
    p.add_argument("--only", default="",
                   help="only rows whose title contains this")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=3,
                   help="of each steady row")
    p.add_argument("--size", type=int, default=512, help="of the disk, MiB")
    p.add_argument("--cluster-size", type=int, default=0,
                   help="of ours, KiB (default: what the filter takes)")
    p.add_argument("--rate", type=int, default=1000,
                   help="writes/s of the guest whose latency is measured")
    p.add_argument("--durable", action="store_true",
                   help="of the section points: also what is kept on disk; "
                        "--dir must be on one")
    p.add_argument("--nbdkit", default="nbdkit")
    p.add_argument("--nbdkit-threads", type=int, default=16)
    p.add_argument("--qsd", action="append",
                   help="a qemu-storage-daemon; a second one is measured "
                        "too where it matters")
    p.add_argument("--results", default=os.path.join(TOP, "bench", "results"),
                   help="where the report, JSON and plots go "
                        "(default: bench/results)")
    p.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"),
                   help="compare two reports (JSON) of one machine instead")
    args = p.parse_args()
    args.dir = args.dir or ["/dev/shm"]
    args.qsd = args.qsd or ["qemu-storage-daemon"]
    for name in args.sections.split(","):
        if name not in rows.SECTIONS:
            p.error(f"no section \"{name}\"; there are "
                    f"{', '.join(rows.SECTIONS)}")
    return args


def run_row(args, lab, row):
    """All series in turn, several rounds of it.  Each round begins with
    another, so that none is always measured after the same one.
    """
    result = report.Result(row)
    for i in range(args.rounds):
        first = i % len(row.series)
        for series in row.series[first:] + row.series[:first]:
            result.runs[series.name].append(series.measure(lab))
    print(result.line(), flush=True)
    return result


def run_in(args, directory):
    """The rows with the disk in one directory."""
    results = []
    with tempfile.TemporaryDirectory(prefix="cbw-bench-",
                                     dir=directory) as tmp:
        lab = Lab(args, tmp, args.size * MIB)
        lab.make_image()
        for name in args.sections.split(","):
            for row in rows.SECTIONS[name](args):
                if args.only in row.title:
                    results.append(run_row(args, lab, row))
    return results


def main():
    args = parse_args()
    if args.compare:
        report.compare(*args.compare)
        return
    for program in (args.nbdkit, *args.qsd, "fio", "nbdcopy", "nbdinfo",
                    "gnuplot"):
        if shutil.which(program) is None:
            sys.exit(f"bench: {program} is not installed; scripts/bench "
                     "installs what is missing")
    for directory in args.dir:
        file_system = machine.file_system(directory)
        print(f"\n{directory} ({file_system})\n\n{report.TABLE_HEAD}")
        results = run_in(args, directory)
        about = {
            "date": datetime.date.today().isoformat(),
            "machine": machine.machine(),
            "versions": machine.versions(args),
            "parameters": {
                "file-system": file_system, "disk-MiB": args.size,
                "cluster-KiB": args.cluster_size or "default",
                "rounds": args.rounds,
                "seconds": args.seconds, "rate": args.rate}}
        out = os.path.join(args.results, file_system)
        os.makedirs(out, exist_ok=True)
        report.save(os.path.join(out, "report"), about, results)
        made = plots.draw(out, results)
        print(f"\nwritten: {out}/report.md, report.json"
              f"{''.join(', ' + name for name in made)}")


main()
