#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A guest writes what is there already, and the write fails below, which
# leaves its range undefined.  The snapshot has the old bytes all the same,
# or is not readable.

. ./functions.sh
set -e
requires_plugin python

# While there is a file "torn" beside the disk, each write overwrites a part
# of its range with rubbish, and fails.
cat >"$tmp/disk.py" <<'PY'
import errno
import nbdkit
import os

API_VERSION = 2
name = None

def config(key, value):
    global name
    name = value

def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL

def open(readonly):
    return os.open(name, os.O_RDWR)

def get_size(fd):
    return os.fstat(fd).st_size

def pread(fd, buf, offset, flags):
    buf[:] = os.pread(fd, len(buf), offset)

def pwrite(fd, buf, offset, flags):
    if os.path.exists(name + ".torn"):
        third = len(buf) // 3
        os.pwrite(fd, b"\xee" * third, offset + third)
        nbdkit.set_error(errno.EIO)
        raise OSError(errno.EIO, "torn")
    os.pwrite(fd, buf, offset)

def flush(fd, flags):
    os.fdatasync(fd)
PY
random_file "$tmp/disk" 4000000
start_disk python "$tmp/disk.py" disk="$tmp/disk" cbw-shm="$shm" \
           cbw-cluster-size=16k
start_snap "$shm"
. "$top_srcdir/tests/unchanged-fails.sh"
