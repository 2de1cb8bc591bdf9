#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl check finds damage, says what it is, one line each, with exit
# status 1; and no command crashes on any segment, however damaged: cut off
# anywhere, foreign, or with bits flipped.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
           cbw-writeback=1M
cbwctl create "$shm" one >/dev/null
cbwctl create "$shm" two >/dev/null
guest <<PY
h.pwrite (b"1" * 65536 * 4, 0)
PY
stop_server disk
cp "$shm" "$tmp/good"

# As common/segment/layout.h has them, for this disk.
cat >"$tmp/damage.py" <<'PY'
import struct, sys
path, what = sys.argv[1], sys.argv[2]
f = open (path, "r+b")
f.seek (96)
snapshots, directory, _, _, cells, bitmaps, size = struct.unpack ("<7Q", f.read (56))
def poke (offset, data):
    f.seek (offset); f.write (data)
def entry (i): return snapshots + 2048 * i
def bitmap (i, kind):
    for record in range (640):
        f.seek (directory + 64 * record)
        state, k, of, owner, _, offset = struct.unpack ("<4I2Q", f.read (32))
        if (state, k, of, owner) == (1, kind, 1, i):
            return offset
def fnv (data):
    s = 0xcbf29ce484222325
    for b in data:
        s = (s ^ b) * 0x100000001b3 & (1 << 64) - 1
    return s
def placed (i, offset):
    poke (directory + 64 * i + 24, struct.pack ("<Q", offset))
    f.seek (directory + 64 * i + 4); s = fnv (f.read (36))
    poke (directory + 64 * i + 40, struct.pack ("<Q", s))
def summed (i, offset, data):
    poke (entry (i) + offset, data)
    f.seek (entry (i)); poke (entry (i) + 1192, struct.pack ("<Q", fnv (f.read (1192))))
{
    "magic": lambda: poke (0, b"X"),
    "version": lambda: poke (8, b"\x09"),
    "incompat": lambda: poke (184, b"\x20"),
    "geometry": lambda: poke (20, b"\x09"),
    "state": lambda: poke (192, b"\x07"),
    "counter": lambda: poke (192 + 3 * 64 + 8, b"\xff" * 4),
    "entry-sum": lambda: poke (entry (0) + 60, b"\x55"),
    "entry-state": lambda: poke (entry (0) + 1216, b"\x09"),
    "same-name": lambda: summed (1, 40, b"one\0"),
    "bad-name": lambda: summed (1, 40, b"a/b\0"),
    "same-id": lambda: summed (1, 0, b"\x01"),
    "high-id": lambda: summed (1, 0, b"\x99"),
    "size": lambda: summed (1, 8, b"\xff" * 7),
    "target-path": lambda: summed (1, 128, b"x"),
    "padding": lambda: poke (bitmap (1, 1) + size - 1, b"\x80"),
    "settled": lambda: poke (bitmap (1, 2) + 3, b"\x01"),
    "done": lambda: poke (bitmap (1, 1), b"\x0e"),
    "slot": lambda: poke (4096 * 3 , b"\x7f"),
    "cell": lambda: poke (cells + 32, b"\x02"),
    "cell-snapshot": lambda: poke (cells + 64, b"\1" + bytes (7) + b"\x63"),
    "cell-cluster": lambda: poke (cells + 64, b"\1" + bytes (7) +
                                  struct.pack ("<QQ", 2, 64)),
    "cells-used": lambda: poke (408, b"\xff\xff"),
    "bitmap-sum": lambda: poke (directory + 24, b"\x01"),
    "bitmap-state": lambda: poke (directory + 64, b"\x09"),
    "bitmap-place": lambda: placed (3, bitmaps + 7 * size * 99),
    "bitmap-twice": lambda: placed (3, bitmaps + size),
    "long": lambda: f.truncate (bitmaps + 640 * size + 1),
    "truncated": lambda: f.truncate (bitmaps + 3 * size + 1),
    "truncated-head": lambda: f.truncate (5000),
    "truncated-header": lambda: f.truncate (100),
}[what] ()
PY

finds ()
{
    local rc=0
    cp "$tmp/good" "$shm"
    "$PYTHON" "$tmp/damage.py" "$shm" "$1"
    cbwctl check "$shm" >"$tmp/out" 2>"$tmp/err" || rc=$?
    [ $rc -eq 1 ] || { cat "$tmp/out"; fail "$1: status $rc"; }
    expect_in "$tmp/out" "$2"
    rc=0
    cbwctl check "$shm" --json >"$tmp/json" 2>"$tmp/err" || rc=$?
    [ $rc -eq 1 ] || fail "$1: status $rc with --json"
    json "j['corruptions'] == len (j['problems']) > 0" <"$tmp/json"
}

finds magic "is not a segment"
finds version "is a segment of another version"
finds incompat "is a segment with features that this program does not know"
finds geometry "checksum of its header is wrong"
finds state "the server's state is 7"
finds counter "requests cannot have read"
finds entry-sum "entry 0: its checksum is wrong"
finds entry-state "entry 0: it is in state 9"
finds same-name 'entries 0 and 1 have the same name, "one"'
finds bad-name "entry 1: a snapshot's name cannot contain"
finds same-id "entries 0 and 1 have the same id"
finds high-id "entry 1: its id is 153"
finds size "entry 1: bitmaps have no room for a disk of"
finds target-path "entry 1: the path of its target is not absolute"
finds padding "of its done bitmap is set, but it has only 64 clusters"
finds settled "cluster 24 was written to since, but its old data was not copied"
finds done "counted 4 clusters copied, but only 3 are marked as done"
finds slot "request list: slot 0 is in state 127"
finds cell "write-back buffer: cell 1 is in state 2"
finds cell-snapshot "cell 2 is of snapshot id 99, which there never was"
finds cell-cluster 'cell 2 holds cluster 64 of snapshot "two"'
finds cells-used "65535 clusters cannot be in a write-back buffer of"
finds bitmap-sum "bitmap directory: record 0: its checksum is wrong"
finds bitmap-sum "entry 0: its bitmaps are missing"
finds bitmap-state "bitmap directory: record 1: it is in state 9"
finds bitmap-place "are not in the part of the file that is for bitmaps"
finds bitmap-twice "bitmap directory: record 3: it overlaps record 1"
finds long "more than any segment of its geometry"
finds truncated "entry 1: its bitmaps are missing"
finds truncated-head "is truncated"
finds truncated-header "is not a segment"

# Targets that are not what they were.
cp "$tmp/good" "$shm"
mv "$tmp/two.cow" "$tmp/saved"
cbwctl check "$shm" >"$tmp/out" && fail "a target is gone" || :
expect_in "$tmp/out" "its target $tmp/two.cow cannot be found"
cp "$tmp/saved" "$tmp/two.cow"
cbwctl check "$shm" >"$tmp/out" && fail "a target was replaced" || :
expect_in "$tmp/out" "its target $tmp/two.cow is not the file"
mv "$tmp/saved" "$tmp/two.cow"
cbwctl check "$shm" >/dev/null
truncate -s +1 "$tmp/two.cow"
cbwctl check "$shm" >"$tmp/out" && fail "a target was resized" || :
expect_in "$tmp/out" "bytes, not 4194304"

# Anything: no crash, no hang, and status 0 or 1.
"$PYTHON" - "$cbwctl" "$tmp/good" "$tmp/bad" "${CBW_FUZZ:-60}" <<'PY'
import os, random, subprocess, sys
cbwctl, good, bad, rounds = sys.argv[1:4] + [int (sys.argv[4])]
data = open (good, "rb").read ()
random.seed (7)
tables = 16797696               # where the snapshots' begins, as in layout.c
interesting = [(0, 600), (4096, 4096 * 6), (tables, tables + 2 * 2048),
               (tables + 64 * 2048, tables + 64 * 2048 + 7 * 64),
               (len (data) - 6 * 4096, len (data))]
for i in range (rounds):
    d = bytearray (data)
    for n in range (random.choice ([1, 1, 2, 10, 300])):
        d[random.randrange (*random.choice (interesting))] ^= \
            1 << random.randrange (8)
    if i % 3 == 0:
        del d[random.choice ([random.randrange (len (d)),
                              random.randrange (20000)]):]
    with open (bad, "wb") as f:
        f.write (d)
    for args in ["check", bad], ["status", bad, "--json"], ["status", bad], \
                ["map", bad, "one"], ["map", bad, "two", "--json"]:
        r = subprocess.run ([cbwctl] + args, stdout = subprocess.DEVNULL,
                            stderr = subprocess.PIPE, timeout = 60)
        assert r.returncode in (0, 1) and b"Sanitizer" not in r.stderr, \
            (i, args, r)
PY
for file in /dev/null "$tmp" "$tmp/disk" "$cbwctl"; do
    for command in check status "map 1" "create 1" "drop 1"; do
        # shellcheck disable=SC2086
        set -- $command
        rc=0
        cbwctl "$1" "$file" ${2:+"$2"} >"$tmp/out" 2>&1 || rc=$?
        [ $rc -eq 1 ] || fail "$command of $file: status $rc"
    done
done
