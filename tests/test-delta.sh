#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Incremental backups with stock tools: the extents of "mon..tue" are exactly
# what changed, qemu-img makes the right overlay from it, and nbdcopy the right
# full copy; directly, and through the filter.

. ./functions.sh
set -e
. "$top_srcdir/tests/delta.sh"
requires qemu-img nbdcopy nbdinfo

# trial DIRECT: the disk has 16 clusters of data, 16 of holes, and a part of
# one.
trial ()
{
    local dir=$tmp/$1
    mkdir "$dir"
    random_file "$dir/disk" 1M
    truncate -s $((32 * 65536 + 1000)) "$dir/disk"
    shm=$dir/shm
    start_disk file "$dir/disk" cbw-shm="$shm" cbw-cluster-size=64k
    start_snap "$shm" direct="$1"

    cbwctl create "$shm" mon >/dev/null
    cp "$dir/disk" "$dir/is-mon"
    nbdcopy "$(export_of mon)" "$dir/mon.img"
    same "$dir/is-mon" "$dir/mon.img"
    qemu-img convert -O qcow2 "$(export_of mon)" "$dir/mon.qcow2"
    cbwctl drop "$shm" mon --keep-checkpoint >/dev/null

    guest <<PY
import os
h.pwrite (os.urandom (512), 1 * 65536 + 100)            # data over data
h.pwrite (os.urandom (2 * 65536), 3 * 65536 - 10)       # three clusters
h.trim (65536, 7 * 65536)                               # a hole for data
h.zero (2 * 65536, 9 * 65536)
h.pwrite (os.urandom (65536), 20 * 65536)               # data for a hole
h.zero (65536, 24 * 65536, nbd.CMD_FLAG_NO_HOLE)        # the same zeroes
h.pwrite (os.urandom (3), 32 * 65536 + 997)             # the last bytes
PY
    cbwctl create "$shm" tue >/dev/null
    cp "$dir/disk" "$dir/is-tue"

    # What comes after tue is not of it, in clusters of the delta or not.
    guest <<PY
import os
h.pwrite (os.urandom (65536), 5 * 65536)
h.pwrite (os.urandom (65536), 3 * 65536)
h.pwrite (os.urandom (65536), 7 * 65536)
h.zero (65536, 20 * 65536)
h.pwrite (os.urandom (65536), 30 * 65536)
PY
    for name in mon..tue mon..; do
        check_tue "$name"
    done
    check_overlay
    check_list
    check_chain
    stop_server snap
    stop_server disk
}

check_tue ()
{
    view_is "$dir/is-tue" "$(export_of "$1")"
    # Between two data clusters of the file are what it says of the others;
    # zeroes that were written may be data or holes.
    nbdinfo --map "$(export_of "$1")" | "$PYTHON" -c '
import sys
kinds = {}
for line in sys.stdin:
    start, length, kind = map (int, line.split ()[:3])
    assert start % 65536 == 0
    for c in range (start // 65536, (start + length + 65535) // 65536):
        kinds[c] = kind
changed = {1, 2, 3, 4, 7, 9, 10, 20, 24, 32}
assert {c for c in kinds if kinds[c] != 1} == changed, kinds
assert {c for c in kinds if kinds[c] == 0} >= {1, 2, 3, 4, 20, 32}, kinds
assert {kinds[c] for c in (7, 9, 10)} == {3}, kinds
assert sorted (kinds) == list (range (33))
' || fail "the map of $1"
    nbdinfo --map --totals "$(export_of "$1")" >"$dir/totals"
    grep -Eq "^ *$((23 * 65536)) +71.8% +1 hole$" "$dir/totals" ||
        { cat "$dir/totals" >&2; fail "the totals of $1"; }
}

# The overlay has the clusters that changed, compressed or not, and with its
# backing file the whole disk.
check_overlay ()
{
    head -c 24 /dev/zero | cat "$dir/is-tue" - >"$dir/padded-tue"
    for c in "" -c; do
        qemu-img convert $c -O qcow2 -B "$dir/mon.qcow2" -F qcow2 \
                 "$(export_of mon..tue)" "$dir/tue$c.qcow2"
        overlay_is "$dir/tue$c.qcow2" "$dir/padded-tue"
        overlay_has "$dir/tue$c.qcow2" 1 2 3 4 7 9 10 20 24 32
    done
}

check_list ()
{
    nbdinfo --list "$snap" >"$dir/list"
    expect_in "$dir/list" 'export="mon..tue"'
    expect_in "$dir/list" "description: changes from \"mon\" to \"tue\", \
$((9 * 65536 + 1000)) bytes of $((32 * 65536 + 1000)) (28.2 %)"
    expect_in "$dir/list" 'export="tue"'
    [ "$(grep -c '^export=' "$dir/list")" -eq 2 ] ||
        { cat "$dir/list" >&2; fail "the list of exports"; }
    nbdinfo "$(export_of mon..tue)" >"$dir/info"
    expect_in "$dir/info" "(28.2 %); snapshot of "
    expect_in "$dir/info" " UTC, live"
    expect_in "$dir/info" "can_multi_conn: true"
    expect_in "$dir/info" "is_read_only: true"
    expect_in "$dir/info" "block_size_preferred: 65536"
    # The default export is a snapshot.
    view_is "$dir/is-tue"
    nbdinfo --map "$snap" >"$dir/map"
    not_in "$dir/map" "hole$"
}

# A connection keeps its delta, whatever becomes of A.  An overlay of the next
# day is based on tue's image, or on mon's.
check_chain ()
{
    cat >"$dir/stay.py" <<PY
import errno, subprocess
def ask ():
    got = []
    h.block_status (2 * 65536, 0, lambda c, o, e, err: got.extend (e))
    return got
def ctl (*args):
    subprocess.run (("$cbwctl",) + args, check=True, stdout=subprocess.DEVNULL)
before = ask ()
assert before[:2] == [65536, nbd.STATE_HOLE] and before[3] == 0, before
tue = open ("$dir/is-tue", "rb").read ()
ctl ("create", "$shm", "wed")
assert ask () == before
ctl ("drop", "$shm", "mon")
assert ask () == before
assert h.pread (65536, 3 * 65536) == tue[3 * 65536:4 * 65536]
ctl ("drop", "$shm", "tue", "--keep-checkpoint")
try:
    h.pread (512, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.ESHUTDOWN, e
PY
    nbdsh --base-allocation -u "$(export_of mon..tue)" -c - <"$dir/stay.py"
    cp "$dir/disk" "$dir/is-wed"
    head -c 24 /dev/zero | cat "$dir/is-wed" - >"$dir/padded-wed"
    open_fails mon..wed 'there is no snapshot or checkpoint "mon"'
    view_is "$dir/is-wed" "$(export_of tue..wed)"
    qemu-img convert -O qcow2 -B "$dir/tue.qcow2" -F qcow2 \
             "$(export_of tue..wed)" "$dir/wed.qcow2"
    overlay_is "$dir/wed.qcow2" "$dir/padded-wed"
    overlay_has "$dir/wed.qcow2" 3 5 7 20 30
}

trial auto
trial off
