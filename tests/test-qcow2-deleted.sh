#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot that is deleted while a client reads it: ESHUTDOWN, and never
# the bytes of another one, also if that has its name and its id.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

qemu-img create -q -f qcow2 "$tmp/disk.qcow2" 1M
for i in 1 2 3; do
    qemu-io -f qcow2 -c "write -q -P $i 0 1M" "$tmp/disk.qcow2"
    qemu-img snapshot -c "snap $i" "$tmp/disk.qcow2"
done
start_snap qcow2="$tmp/disk.qcow2"

nbdsh -c - <<PY
import errno, nbd, subprocess

def view (name):
    h = nbd.NBD ()
    h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
    h.set_export_name (name)
    h.connect_unix ("$tmp/snap.sock")
    return h

def run (*args):
    subprocess.run (args, check=True)

def snapshot (*args):
    run ("qemu-img", "snapshot", *args, "$tmp/disk.qcow2")

def is_gone (h):
    for request in (lambda: h.pread (512, 0),
                    lambda: h.block_status (65536, 0, lambda *a: None)):
        try:
            request ()
            assert False
        except nbd.Error as e:
            assert e.errnum == errno.ESHUTDOWN, e

views = [view ("snap %d" % i) for i in (1, 2, 3)]
late = view ("snap 3")          # no request yet
for i, h in enumerate (views):
    assert h.pread (4096, 8192) == bytes ([i + 1]) * 4096

# The last one: a new one gets its id, and then its name.
snapshot ("-d", "snap 3")
is_gone (views[2])
is_gone (late)
run ("qemu-io", "-f", "qcow2", "-c", "write -q -P 9 0 1M",
     "$tmp/disk.qcow2")
snapshot ("-c", "snap 3")
is_gone (views[2])
is_gone (late)
new = view ("snap 3")
assert new.pread (4096, 8192) == b"\x09" * 4096
is_gone (views[2])

# Deleted and made again between two requests.
snapshot ("-d", "snap 3")
run ("qemu-io", "-f", "qcow2", "-c", "write -q -P 8 0 1M",
     "$tmp/disk.qcow2")
snapshot ("-c", "snap 3")
is_gone (new)
never = view ("snap 3")         # the same, with qemu-nbd not yet running
snapshot ("-d", "snap 3")
snapshot ("-c", "snap 3")
is_gone (never)

# The others have changed places in the table.
snapshot ("-d", "snap 1")
is_gone (views[0])
assert views[1].pread (4096, 8192) == b"\x02" * 4096
snapshot ("-a", "snap 2")
assert views[1].pread (1 << 20, 0) == b"\x02" * (1 << 20)

# The image itself.
run ("mv", "$tmp/disk.qcow2", "$tmp/old")
assert views[1].pread (4096, 0) == b"\x02" * 4096
run ("truncate", "-s", "100", "$tmp/old")
try:
    views[1].pread (4096, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.EIO, e
PY
expect_in "$tmp/snap.log" "snapshot \"snap 3\" (id 3): cannot read 512 bytes at offset 0: $tmp/disk.qcow2: the snapshot was deleted"
expect_in "$tmp/snap.log" "$tmp/disk.qcow2: is cut off in the header"
nothing_left
