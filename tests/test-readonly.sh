#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A read-only disk, by nbdkit -r or by a plugin that cannot write: the
# filter loads and passes, and the view is the disk.

. ./functions.sh
set -e

try ()
{
    start_disk "$@" cbw-shm="$shm" cbw-target="$tmp/target"
    start_snap "$shm"
    guest <<PY
import errno
assert h.is_read_only ()
expected = open ("$tmp/original", "rb").read ()
assert h.pread (len (expected), 0) == expected
h.set_strict_mode (0)
for op in [lambda: h.pwrite (b"x" * 512, 0), lambda: h.zero (512, 0),
           lambda: h.trim (512, 0)]:
    try:
        op ()
        assert False
    except nbd.Error as e:
        assert e.errnum in (errno.EPERM, errno.EROFS, errno.EINVAL), e.string
PY
    view_is "$tmp/original"
    stop_server snap
    stop_server disk
    [ "$(du -k "$tmp/target" | cut -f1)" = 0 ] || fail "something was copied"
    rm "$shm" "$tmp/target"
}

random_file "$tmp/original" 1M
cp "$tmp/original" "$tmp/disk"
try -r file "$tmp/disk"

nbdkit -U - pattern 1M --run "nbdcopy \$uri $tmp/original"
try pattern 1M
