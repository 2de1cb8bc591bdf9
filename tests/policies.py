# SPDX-License-Identifier: BSD-3-Clause
"""For the tests of what failed copies do: one case after the other, each
with a snapshot of its own, of every policy, request and range.

    run (disk, snap, cbwctl, shm, target, fail, heal, num, options)

fail (offset) makes copies fail that reach past the offset, heal () ends
that; num is the errno kept in the snapshot, and options are those of
cbwctl create, the policy excepted.
"""

import errno
import json
import os
import subprocess
import time

import nbd

CS = 65536
REGION = 16 * CS                # where a case writes
RANGES = {
    "one cluster": (3 * CS, CS),
    "many clusters": (2 * CS, 11 * CS),
    "parts of two": (4 * CS - 700, 1500),
}
# What NBD has for it: the rest becomes EIO.
WIRE = {errno.ENOSPC: errno.ENOSPC, errno.EDQUOT: errno.ENOSPC}


def connect(uri, export=""):
    h = nbd.NBD()
    h.connect_uri(uri.replace(":///?", ":///%s?" % export))
    return h


class Case:
    def __init__(self, cbwctl, shm):
        self.cbwctl, self.shm = cbwctl, shm

    def control(self, *args):
        return subprocess.run([self.cbwctl, *args], check=True,
                              stdout=subprocess.PIPE).stdout

    def status(self, name):
        j = json.loads(self.control("status", self.shm, "--json"))
        return [s for s in j["snapshots"] if s["name"] == name][0]


def change(guest, op, count, offset):
    """0 or the errno; what the disk has then is the caller's business."""
    try:
        if op == "write":
            guest.pwrite(b"N" * count, offset)
        elif op == "zero":
            guest.zero(count, offset)
        else:
            guest.trim(count, offset)
        return 0
    except nbd.Error as e:
        return e.errnum


def check_broken(view, case, name, num):
    for offset in 0, 3 * CS, REGION - 1:
        try:
            view.pread(1, offset)
            assert False, "a broken snapshot was read"
        except nbd.Error as e:
            assert e.errnum == errno.EIO, e
    s = case.status(name)
    assert s["state"] == "broken" and s["error"]["errno"] == num, s
    assert s["error"]["reason"] == "copy" and s["error"]["offset"] < REGION


def run(disk, snap, cbwctl, shm, target, fail, heal, num, options=(),
        limit=None, policies=("break-snapshot", "break-guest-write")):
    case = Case(cbwctl, shm)
    guest = connect(disk)
    for policy in policies:
        for op in "write", "zero", "trim":
            for what, (offset, count) in RANGES.items():
                name = "%s, %s, %s" % (policy, op, what)
                print(name, flush=True)
                name = name.replace(",", "").replace(" ", "-")
                guest.pwrite(os.urandom(REGION), 0)
                old = guest.pread(REGION, 0)
                case.control("create", shm, name, "--target=" + target,
                             "--on-error=" + policy, *options)
                view = connect(snap, name)
                fail(0)
                start = time.monotonic()
                r = change(guest, op, count, offset)
                took = time.monotonic() - start
                # Then what was late may still be copied.
                copied = case.status(name)["copied-clusters"]
                heal()
                if limit:
                    assert limit - 0.05 <= took < limit + 1, took
                now = guest.pread(REGION, 0)
                if policy == "break-snapshot":
                    assert r == 0, r
                    assert now != old
                    check_broken(view, case, name, num)
                else:
                    assert r == WIRE.get(num, errno.EIO), r
                    assert now == old
                    assert view.pread(REGION, 0) == old
                    s = case.status(name)
                    assert s["state"] == "live", s
                    assert s["error"]["errno"] == num, s
                    assert copied == 0, copied
                    assert change(guest, op, count, offset) == 0
                    assert guest.pread(REGION, 0) != old
                    assert view.pread(REGION, 0) == old
                view.shutdown()
                case.control("drop", shm, name)
