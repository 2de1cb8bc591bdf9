#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# An image whose header or snapshot table is damaged: refused with a clear
# message, or an error for those who read it while it happens.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

good=$tmp/good.qcow2
image=$tmp/disk.qcow2
qemu-img create -q -f qcow2 "$good" 1M
for i in 1 2; do
    qemu-io -f qcow2 -c "write -q -P $i 0 1M" "$good"
    qemu-img snapshot -c "s$i" "$good"
done

# damage FORMAT OFFSET VALUE ...: struct.pack them into the image.  OFFSET
# is Python; t is the table's offset, u the second entry's.
damage ()
{
    cp "$good" "$image"
    "$PYTHON" - "$image" "$@" <<'PY'
import struct, sys
with open (sys.argv[1], "r+b") as f:
    header = f.read (104)
    n, t = struct.unpack (">IQ", header[60:72])
    f.seek (t)
    entry = f.read (40)
    id_len, name_len = struct.unpack (">HH", entry[12:16])
    extra, = struct.unpack (">I", entry[36:40])
    u = t + (40 + extra + id_len + name_len + 7 & ~7)
    args = sys.argv[2:]
    while args:
        fmt, offset, value = args[:3]
        f.seek (eval (offset))
        f.write (struct.pack (fmt, eval (value)))
        args = args[3:]
PY
}

# bad TEXT DAMAGE...: the server does not start.
bad ()
{
    local text=$1
    shift
    damage "$@"
    refused "$plugin" qcow2="$image"
    expect_in "$tmp/refused.log" "$image: $text"
}

bad "is not a qcow2 image" '>I' 0 0
bad "has qcow version 4: only 2 and 3 are known" '>I' 4 4
bad "is damaged: clusters of 2^63 bytes" '>I' 20 63
bad "is damaged: its header speaks of 4294967295 snapshots" '>I' 60 0xffffffff
bad "is damaged: its header speaks of 65537 snapshots" '>I' 60 65537
bad "is damaged: the snapshot table cannot be at offset 0" '>Q' 64 0
bad "is damaged: the snapshot table cannot be at offset" '>Q' 64 t+8
bad "is damaged: the snapshot table cannot be at offset 18446744073709486080" \
    '>Q' 64 2**64-65536
bad "is damaged: the snapshot table at offset 1099511627776 goes beyond the end of the file" \
    '>Q' 64 1024**4
bad "is damaged: entry 1 of the snapshot table has 4294967295 bytes of extra data" \
    '>I' u+36 0xffffffff
refused "$plugin" qcow2="$tmp/none.qcow2"
expect_in "$tmp/refused.log" "$tmp/none.qcow2: cannot open: No such file"
: >"$image"
refused "$plugin" qcow2="$image"
expect_in "$tmp/refused.log" "$image: is not a qcow2 image"

# One damaged snapshot does no harm to the other.
# bad_snapshot TEXT DAMAGE...
bad_snapshot ()
{
    local text=$1
    shift
    damage "$@"
    start_snap qcow2="$image"
    if nbdinfo "$(export_uri s2)" >/dev/null 2>&1; then
        fail "a damaged snapshot was opened"
    fi
    expect_in "$tmp/snap.log" "$image: snapshot \"s2\" (id 2) is damaged: $text"
    [ "$(nbdcopy "$(export_uri s1)" - | tr -d '\001' | wc -c)" = 0 ] ||
        fail "the other snapshot"
    stop_server snap
    rm "$tmp/snap.log"
}
bad_snapshot "its level 1 table cannot have 4294967295 entries" \
             '>I' u+8 0xffffffff
bad_snapshot "its level 1 table cannot have 1 entries at offset 8" '>Q' u 8
bad_snapshot "its level 1 table at offset 1099511627776 goes beyond" \
             '>Q' u 1024**4
bad_snapshot "its level 1 table is too short for a disk of 1048576 bytes" \
             '>I' u+8 0
bad_snapshot "a disk of 18446744073709551615 bytes" '>Q' u+48 2**64-1

# Not damage: a virtual machine's state, which an image of QEMU's may hold.
damage '>Q' u+40 12345
start_snap qcow2="$image"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" ' UTC, id 2, with 12345 bytes of VM state'
stop_server snap

# An encrypted image.
damage '>I' 32 2
start_snap qcow2="$image"
if nbdinfo "$snap" >/dev/null 2>&1; then fail "it is encrypted"; fi
expect_in "$tmp/snap.log" "$image: is encrypted, which is not supported"
stop_server snap

# While it is read: an error until it is whole again.
cp "$good" "$image"
start_snap qcow2="$image"
nbdsh -c - <<PY
import errno, nbd
h = nbd.NBD ()
h.connect_uri ("nbd+unix:///s2?socket=$tmp/snap.sock")
assert h.pread (512, 0) == b"\2" * 512
with open ("$image", "r+b", buffering=0) as f:
    f.seek (60)
    count = f.read (4)
    f.seek (60)
    f.write (b"\xff" * 4)
    try:
        h.pread (512, 0)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
    try:
        nbd.NBD ().connect_uri ("$snap")
        assert False
    except nbd.Error:
        pass
    f.seek (60)
    f.write (count)
assert h.pread (512, 0) == b"\2" * 512
PY
expect_in "$tmp/snap.log" "its header speaks of 4294967295 snapshots"
nothing_left
