#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# With cbw-export= the filter sees a disk that has grown through the next
# client of the export, and a snapshot is as large from then on.

. ./functions.sh
set -e

mkdir "$tmp/disks"
random_file "$tmp/disks/a" 1000001
random_file "$tmp/disks/b" 1M
cp "$tmp/disks/a" "$tmp/is-small"
a="nbd+unix:///a?socket=$tmp/disk.sock"
start_disk file dir="$tmp/disks" cbw-export=a cbw-shm="$shm" \
           cbw-cluster-size=64k

nbdsh -c - <<PY
import subprocess
def connect ():
    g = nbd.NBD ()
    g.connect_uri ("$a")
    return g
def cbwctl (*args):
    return subprocess.run (["$cbwctl", *args], capture_output=True, text=True)
first = connect ()
first.pread (1, 0)
r = cbwctl ("create", "$shm", "small", "--target=$tmp/small")
assert r.returncode == 0, r.stderr
with open ("$tmp/disks/a", "ab") as f:
    f.write (b"more" * 500000)

# Who only looks lends nothing, but has seen it.
larger = connect ()
assert larger.get_size () == 3000001
r = cbwctl ("create", "$shm", "never", "--target=$tmp/never")
assert r.returncode == 1 and "has grown to 3000001 bytes" in r.stderr, r

larger.pread (1, 3000000)
larger.pwrite (b"l" * 500, 2999000)
r = cbwctl ("create", "$shm", "larger", "--target=$tmp/larger")
assert r.returncode == 0, r.stderr
open ("$tmp/is-larger", "wb").write (open ("$tmp/disks/a", "rb").read ())

# The first one's context is too small for the last cluster that it knows.
first.pwrite (b"f" * 1001, 1000001 - 1001)
first.trim (500000, 1000001 - 500000)
larger.pwrite (b"L" * 500000, 2500001)
larger.shutdown ()
first.pwrite (b"f" * 100, 0)
first.shutdown ()
connect ().pwrite (b"n" * 100000, 1500000)
PY
absent "$tmp/never"
start_snap "$shm"
for name in small larger; do
    view_is "$tmp/is-$name" "nbd+unix:///$name?socket=$tmp/snap.sock"
done
