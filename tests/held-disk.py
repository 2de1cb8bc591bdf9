# SPDX-License-Identifier: BSD-3-Clause
# A disk for nbdkit-python-plugin, in the file disk=FILE: as long as the file
# FILE.hold exists writes of data that begin with "N", and trims, wait in the
# server.  FILE.held.OFFSET exists when one does.

import nbdkit
import os
import time

API_VERSION = 2
name = None


def config(key, value):
    global name
    name = value


def thread_model():
    return nbdkit.THREAD_MODEL_PARALLEL


def open_file(path, mode):
    return os.open(path, mode, 0o600)


def open(readonly):
    return open_file(name, os.O_RDWR)


def get_size(fd):
    return os.fstat(fd).st_size


def can_multi_conn(fd):
    return True


def hold(offset):
    while os.path.exists(name + ".hold"):
        os.close(open_file("%s.held.%d" % (name, offset),
                           os.O_CREAT | os.O_WRONLY))
        time.sleep(0.01)


def pread(fd, buf, offset, flags):
    buf[:] = os.pread(fd, len(buf), offset)


def pwrite(fd, buf, offset, flags):
    data = bytes(buf)
    if data[:1] == b"N":
        hold(offset)
    os.pwrite(fd, data, offset)


def trim(fd, count, offset, flags):
    hold(offset)
    os.pwrite(fd, bytes(count), offset)


def flush(fd, flags):
    os.fsync(fd)
