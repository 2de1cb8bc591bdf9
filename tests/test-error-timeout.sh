#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Copies that take too long: the guest is released at its time limit, under
# each policy, for each request, whole clusters or parts; a limit is one for
# the whole request; what is only slow succeeds.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 2M
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
fault=$CBW_TARGET_FAULT cbwctl=$cbwctl shm=$shm tmp=$tmp disk=$disk snap=$snap \
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PY'
import os, errno, time, policies
from os import environ as env

def fault (text):
    with open (env["fault"] + ".new", "w") as f:
        f.write (text)
    os.rename (env["fault"] + ".new", env["fault"])

# A target that hangs for ever, as far as anybody knows.
policies.run (env["disk"], env["snap"], env["cbwctl"], env["shm"],
              env["tmp"] + "/target", lambda offset: fault ("hang"),
              lambda: fault ("none"), errno.ETIMEDOUT, ["--timeout=0.25"],
              limit = 0.25)

# As QEMU's iotest: a throttled target, two writes of 512K.  Each takes
# 0.4 s.
case = policies.Case (env["cbwctl"], env["shm"])
guest = policies.connect (env["disk"])
for policy in "break-snapshot", "break-guest-write":
    for limit in 0.2, 30:
        guest.pwrite (os.urandom (policies.REGION), 0)
        old = guest.pread (policies.REGION, 0)
        case.control ("create", env["shm"], "slow",
                      "--target=" + env["tmp"] + "/target",
                      "--on-error=" + policy, "--timeout=%g" % limit)
        view = policies.connect (env["snap"], "slow")
        fault ("sleep 0.4")
        for offset in 0, 512 * 1024:
            start = time.monotonic ()
            r = policies.change (guest, "write", 512 * 1024, offset)
            took = time.monotonic () - start
            if limit == 30:
                assert r == 0 and took >= 0.4, (r, took)
            elif policy == "break-guest-write":
                assert r == errno.EIO and 0.18 < took < 0.4, (r, took)
            else:
                assert r == 0, r
                assert took < 0.4 and (offset > 0 or took > 0.18), took
        fault ("none")
        if limit == 30 or policy == "break-guest-write":
            assert view.pread (policies.REGION, 0) == old
        else:
            policies.check_broken (view, case, "slow", errno.ETIMEDOUT)
        case.control ("drop", env["shm"], "slow")
PY
expect_in "$tmp/disk.log" "copying took longer than 0.25 s"
cbwctl check "$shm" >/dev/null
