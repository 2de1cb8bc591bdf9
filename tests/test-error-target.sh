#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Writes to the target fail, with EIO and ENOSPC: under each policy, for
# each request of the guest's, whole clusters or parts.  And a request that
# fails half way leaves what was copied, and its retry copies the rest.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 2M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
fault=$CBW_TARGET_FAULT cbwctl=$cbwctl shm=$shm tmp=$tmp disk=$disk snap=$snap \
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PY'
import os, errno, policies
from os import environ as env

def fault (text):
    with open (env["fault"] + ".new", "w") as f:
        f.write (text)
    os.rename (env["fault"] + ".new", env["fault"])

for num in errno.EIO, errno.ENOSPC:
    policies.run (env["disk"], env["snap"], env["cbwctl"], env["shm"],
                  env["tmp"] + "/target",
                  lambda offset: fault ("errno %d %d" % (num, offset)),
                  lambda: fault ("none"), num)

# Half of it.
case = policies.Case (env["cbwctl"], env["shm"])
guest = policies.connect (env["disk"])
for op in "write", "zero", "trim":
    guest.pwrite (os.urandom (policies.REGION), 0)
    old = guest.pread (policies.REGION, 0)
    case.control ("create", env["shm"], "half",
                  "--target=" + env["tmp"] + "/target",
                  "--on-error=break-guest-write")
    view = policies.connect (env["snap"], "half")
    fault ("errno 28 %d" % (policies.REGION // 2))
    r = policies.change (guest, op, policies.REGION, 0)
    assert r == errno.ENOSPC, r
    assert guest.pread (policies.REGION, 0) == old
    s = case.status ("half")
    assert s["copied-clusters"] == 8, s
    assert s["held-bytes"] == s["copied-bytes"] == policies.REGION // 2, s
    assert s["error"]["offset"] == policies.REGION // 2, s
    assert view.pread (policies.REGION, 0) == old
    fault ("none")
    assert policies.change (guest, op, policies.REGION, 0) == 0
    s = case.status ("half")
    assert s["copied-clusters"] == 16, s
    assert s["held-bytes"] == s["copied-bytes"] == policies.REGION, s
    assert view.pread (policies.REGION, 0) == old
    case.control ("drop", env["shm"], "half")
PY
# Each first failure is told once.
[ "$(grep -c 'is broken: .*Input/output error' "$tmp/disk.log")" = 9 ]
[ "$(grep -c "a guest's write fails.*No space left" "$tmp/disk.log")" = 12 ]
cbwctl check "$shm" >/dev/null
