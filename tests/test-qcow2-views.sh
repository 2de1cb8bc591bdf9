#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The internal snapshots of a qcow2 image: each with its bytes, its size and
# its date, by name or id, whatever the names; qemu-nbd runs while needed.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

image="$tmp/a disk, with=odd:name.qcow2"
base="$tmp/base, too.qcow2"
raw=$tmp/raw                    # what is in the disk now

# A disk that grows, over a backing file.
random_file "$raw" 1500000
truncate -s 2M "$raw"
qemu-img convert -f raw -O qcow2 "$raw" "$base"
qemu-img create -q -f qcow2 -b "$base" -F qcow2 "$image"
n=0
snapshot ()
{
    n=$(( n + 1 ))
    head -c 70000 /dev/urandom >"$tmp/piece"
    dd if="$tmp/piece" of="$raw" bs=1000 seek=$(( n * 111 )) conv=notrunc \
       status=none
    qemu-io -f qcow2 -c "write -q -s $tmp/piece $(( n * 111000 )) 70000" \
            "$image"
    qemu-img snapshot -c "$1" "$image"
    cp --sparse=always "$raw" "$tmp/$n"
}
snapshot one
snapshot 'blanks, commas,, and = signs'
truncate -s 3M "$raw"
qemu-img resize -q -f qcow2 "$image" 3M
snapshot 'dir/with/slashes'
truncate -s 5000192 "$raw"
qemu-img resize -q -f qcow2 "$image" 5000192
snapshot 'ümläut ☃'
snapshot twice
snapshot twice
snapshot ''
snapshot $'not \xff utf-8'
snapshot 1                      # the id of another
qemu-img resize -q -f qcow2 "$image" 8M

# Locked by a writer, and so is the backing file.
start_writer "$image"

before=$(stat -c '%Y %s' "$image")
start_snap qcow2="$image"
nbdinfo --list --json "$snap" >"$tmp/json"
no_qemu_nbds || fail "qemu-nbd was started just to list"
"$PYTHON" - <<PY
import json, re, subprocess, time
exports = json.load (open ("$tmp/json"))["exports"]
names = ["one", "blanks, commas,, and = signs", "dir/with/slashes",
         "\u00fcml\u00e4ut \u2603", "twice", "6", "7", "8", "1"]
sizes = [2 << 20] * 2 + [3 << 20] + [5000192] * 6
assert [e["export-name"] for e in exports] == names, exports
assert [e["export-size"] for e in exports] == sizes, exports
for i, e in enumerate (exports):
    m = re.fullmatch (r"snapshot of (.*) UTC, id (\d+)", e["description"])
    assert m and int (m[2]) == i + 1, e
    t = time.mktime (time.strptime (m[1] + " UTC", "%Y-%m-%d %H:%M:%S %Z"))
    assert abs (t - time.mktime (time.gmtime ())) < 120, e
    assert e["is_read_only"] and e["can_multi_conn"] and not e["can_trim"], e
    assert e["block_size_preferred"] == 65536
PY

i=0
for name in one 'blanks, commas,, and = signs' dir/with/slashes 'ümläut ☃' \
            twice 6 7 8 1; do
    i=$(( i + 1 ))
    view_is "$tmp/$i" "$(export_uri "$name")"
    nothing_left
done
# By id, where no name is in the way; and the newest is the default.
view_is "$tmp/2" "$(export_uri 2)"
view_is "$tmp/9" "$snap"
for name in none 10; do
    if nbdinfo "$(export_uri "$name")" >/dev/null 2>&1; then
        fail "there is no snapshot $name"
    fi
    expect_in "$tmp/snap.log" "$image: there is no snapshot \"$name\""
done
[ "$(stat -c '%Y %s' "$image")" = "$before" ] || fail "the image was changed"

# Many clients, one qemu-nbd a snapshot.
nbdsh -c - <<PY
import nbd, os, subprocess
def open_view (name):
    h = nbd.NBD ()
    h.set_export_name (name)
    h.connect_unix ("$tmp/snap.sock")
    assert h.pread (512, 1000) == data[name][1000:1512]
    return h
def running ():
    return subprocess.run (["pgrep", "-c", "-P", "$(server_pid snap)",
                            "qemu-nbd"], capture_output=True,
                           text=True).stdout.strip ()
data = {n: open ("$tmp/" + f, "rb").read ()
        for n, f in [("one", "1"), ("twice", "5")]}
handles = [open_view (n) for n in ["one", "twice", "one", "one"]]
assert running () == "2", running ()
handles[0].shutdown ()
handles[3].shutdown ()
assert handles[2].pread (100, 5) == data["one"][5:105]
assert running () == "2", running ()

# Large, unaligned, at the end, and beyond it.
one = handles[2]
assert one.pread (len (data["one"]) - 1, 1) == data["one"][1:]
one.set_strict_mode (0)
for offset, n in (len (data["one"]) - 1, 2), (len (data["one"]), 512):
    try:
        one.pread (n, offset)
        assert False
    except nbd.Error as e:
        assert e.errnum in (22, 28), e
try:
    one.pwrite (b"x" * 512, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == 1, e     # EPERM
PY
nothing_left

# One that is taken meanwhile is there at once.
qmp blockdev-snapshot-internal-sync device=disk name=new
nbdinfo --list "$snap" | grep -q 'export="new"' || fail "new is not listed"
nbdinfo --size "$snap" | grep -qx 8388608 || fail "new is the newest"
stop_server snap

# snapshot= is what the default export means, by name or id.
start_snap qcow2="$image" snapshot=3
view_is "$tmp/3"
stop_server snap
