#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A disk that is shrunk after its snapshot was taken: the view keeps its
# size, and what QEMU cannot read any more is an error, not zeroes.  When
# the disk is as large again, all can be read.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

random_file "$tmp/raw" 2M
qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/disk.qcow2"
qemu-img snapshot -c large "$tmp/disk.qcow2"
qemu-img resize -q -f qcow2 --shrink "$tmp/disk.qcow2" 1M
head -c 1M "$tmp/raw" >"$tmp/small"
qemu-img snapshot -c small "$tmp/disk.qcow2"

start_snap qcow2="$tmp/disk.qcow2"
view_is "$tmp/small" "$(export_uri small)"
nbdsh --base-allocation -u "$(export_uri large)" -c - <<PY
import errno
data = open ("$tmp/raw", "rb").read ()
assert h.get_size () == 2 << 20
assert h.pread (1 << 20, 0) == data[:1 << 20]
for request in (lambda: h.pread (512, 1 << 20),
                lambda: h.pread (1024, (1 << 20) - 512),
                lambda: h.pread (512, (2 << 20) - 512),
                lambda: h.block_status (65536, 1 << 20, lambda *a: None)):
    try:
        request ()
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
assert h.pread (512, 512) == data[512:1024]
PY
expect_in "$tmp/snap.log" "the disk is smaller now (1048576 bytes) than when the snapshot was taken"
if nbdcopy "$(export_uri large)" "$tmp/copy" 2>/dev/null; then
    fail "a part of the disk was copied without an error"
fi

qemu-img resize -q -f qcow2 "$tmp/disk.qcow2" 4M
view_is "$tmp/raw" "$(export_uri large)"
view_is "$tmp/small" "$(export_uri small)"
nothing_left
