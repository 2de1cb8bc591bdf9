#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of a disk behind a plugin that is SERIALIZE_ALL_REQUESTS and
# keeps state which overlapping calls would break.

. ./functions.sh
set -e
requires_plugin python

random_file "$tmp/original" 1500000
cp "$tmp/original" "$tmp/disk"
cat >"$tmp/disk.py" <<'PY'
import nbdkit
import os
import time

API_VERSION = 2
name = None
inside = 0

def config(key, value):
    global name
    name = value

def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS

def open(readonly):
    return os.open(name, os.O_RDWR)

def get_size(fd):
    return os.fstat(fd).st_size

def alone(f, *args):
    # Position and access in two steps, with a pause where Python lets
    # others run.
    global inside
    assert inside == 0
    inside += 1
    time.sleep(0.0005)
    r = f(*args)
    assert inside == 1
    inside -= 1
    return r

def pread(fd, buf, offset, flags):
    def f():
        os.lseek(fd, offset, os.SEEK_SET)
        time.sleep(0)
        assert os.readv(fd, [buf]) == len(buf)
    alone(f)

def pwrite(fd, buf, offset, flags):
    def f():
        os.lseek(fd, offset, os.SEEK_SET)
        time.sleep(0)
        assert os.write(fd, buf) == len(buf)
    alone(f)

def zero(fd, count, offset, flags):
    alone(os.pwrite, fd, bytes(count), offset)

def flush(fd, flags):
    alone(os.fsync, fd)
PY
start_disk python "$tmp/disk.py" disk="$tmp/disk" \
           cbw-shm="$shm" cbw-target="$tmp/target"
scenario "$tmp/original"
not_in "$tmp/disk.log" "AssertionError"
