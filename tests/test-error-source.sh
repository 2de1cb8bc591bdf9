#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The old data cannot be read from the disk: under each policy, for each
# request of the guest's, whole clusters or parts.

. ./functions.sh
set -e

random_file "$tmp/disk" 2M
start_disk --filter=error file "$tmp/disk" cbw-shm="$shm" \
           error-pread=EIO error-pread-rate=100% error-pread-file="$tmp/bad"
start_snap "$shm"
cbwctl=$cbwctl shm=$shm tmp=$tmp disk=$disk snap=$snap \
PYTHONPATH=$top_srcdir/tests PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - <<'PY'
import os, errno, policies
from os import environ as env

bad = env["tmp"] + "/bad"
policies.run (env["disk"], env["snap"], env["cbwctl"], env["shm"],
              env["tmp"] + "/target", lambda offset: open (bad, "w").close (),
              lambda: os.unlink (bad), errno.EIO)
PY
expect_in "$tmp/disk.log" "cannot read old data from the disk"
