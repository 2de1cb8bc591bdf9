#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup --since: an older image is brought up to date in place, a raw
# file, an export, or a qcow2 overlay, while guests write; only what has changed
# is written.

. ./functions.sh
set -e
requires qemu-img nbdcopy
requires qemu-nbd

size=$((32 * 1024 * 1024))
random_file "$tmp/disk" $size
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k cbw-commands=on

# change SEED: a guest changes the disk here and there, with zeroes and trims.
change ()
{
    guest <<PY
import os, random
random.seed ($1)
for i in range (20):
    c = random.randrange (512) * 65536
    what = random.randrange (4)
    if what == 0: h.zero (65536, c)
    elif what == 1: h.trim (65536, c)
    else: h.pwrite (os.urandom (5000), c + random.randrange (60000))
PY
}

# backup NAME ARGS...: while a guest writes all the time.
backup ()
{
    local name=$1 busy
    shift
    : >"$tmp/busy"
    guest <<PY &
import os, random
while os.path.exists ("$tmp/busy"):
    h.pwrite (os.urandom (4096), random.randrange (8000) * 4096)
PY
    busy=$!
    cbwctl backup "$shm" "$name" --json "$@" >"$tmp/$name.json" ||
        { cat "$tmp/$name.json"; fail "backup $name"; }
    rm "$tmp/busy"
    wait $busy
}

is () { json "$2" <"$tmp/$1.json" || { cat "$tmp/$1.json"; fail "$1: $2"; }; }

# same NAME IMAGE: a raw image is that of the snapshot NAME-view, made at rest.
cbwctl backup "$shm" sun --to="$tmp/image" >/dev/null
cmp "$tmp/disk" "$tmp/image"
getfattr -n user.nbdkit-cbw.point "$tmp/image" >/dev/null 2>&1 ||
    skip "this file system has no extended attributes"

# ---- In place, at rest: byte for byte, and no more than the delta ----
change 1
inode=$(stat -c %i "$tmp/image")
cbwctl backup "$shm" mon --since=sun --to="$tmp/image" --json >"$tmp/mon.json"
is mon 'j["mode"] == "incremental" and j["since"] == "sun"'
is mon '0 < j["changed-bytes"] <= 20 * 2 * 65536'
is mon 'j["copied-bytes"] <= j["changed-bytes"]'
cmp "$tmp/disk" "$tmp/image"
[ "$(stat -c %i "$tmp/image")" = "$inode" ] || fail "it is another file"

# ---- Chosen by the server, while a guest writes ----
change 2
cp --preserve=all "$tmp/image" "$tmp/kept"
backup tue --since=auto --to="$tmp/image"
is tue 'j["mode"] == "incremental" and j["since"] == "mon"'
# A snapshot taken at once would be another moment: compare with a second
# increment at rest.
cbwctl backup "$shm" wed --since=auto --to="$tmp/image" --json >"$tmp/wed.json"
is wed 'j["since"] == "tue"'
cmp "$tmp/disk" "$tmp/image"
# An older image catches up, too.
cbwctl backup "$shm" thu --since=auto --to="$tmp/kept" --json >"$tmp/thu.json"
is thu 'j["since"] == "mon"'
cmp "$tmp/disk" "$tmp/kept"

# ---- Nothing has changed ----
cbwctl backup "$shm" fri --since=auto --to="$tmp/image" --json >"$tmp/fri.json"
is fri 'j["since"] == "wed" and j["changed-bytes"] == 0'
is fri 'j["copied-bytes"] == 0'
cmp "$tmp/disk" "$tmp/image"

# ---- An overlay ----
qemu-img convert -O qcow2 "$tmp/image" "$tmp/fri.qcow2"
change 3
qemu-img create -q -f qcow2 -b "$tmp/fri.qcow2" -F qcow2 "$tmp/sat.qcow2"
cbwctl backup "$shm" sat --since=fri --json \
       --to="[ qemu-nbd -f qcow2 $tmp/sat.qcow2 ]" >"$tmp/sat.json"
is sat 'j["mode"] == "incremental" and j["copied-bytes"] <= 40 * 65536'
qemu-img convert -O raw "$tmp/sat.qcow2" "$tmp/sat.raw"
cmp "$tmp/disk" "$tmp/sat.raw"
[ "$(stat -c %s "$tmp/sat.qcow2")" -lt $((size / 4)) ] || fail "a full overlay"
# By itself: all is compared, and only what differs is written.
change 4
qemu-img create -q -f qcow2 -b "$tmp/sat.qcow2" -F qcow2 "$tmp/sun.qcow2"
cbwctl backup "$shm" sun2 --since=auto --json \
       --to="[ qemu-nbd -f qcow2 $tmp/sun.qcow2 ]" >"$tmp/sun2.json"
is sun2 'j["mode"] == "full" and "what differs is written" in j["reason"]'
is sun2 'j["copied-bytes"] <= 40 * 65536'
qemu-img convert -O raw "$tmp/sun.qcow2" "$tmp/sun.raw"
cmp "$tmp/disk" "$tmp/sun.raw"
# An empty one has to be a full one.
qemu-img create -q -f qcow2 "$tmp/full.qcow2" $size
cbwctl backup "$shm" full --since=auto --json \
       --to="[ qemu-nbd -f qcow2 $tmp/full.qcow2 ]" >"$tmp/full.json"
is full 'j["mode"] == "full" and j["reason"] == "the export is empty"'
qemu-img compare -q -f raw -F qcow2 "$tmp/disk" "$tmp/full.qcow2"

# ---- The same name every night ----
change 5
cbwctl backup "$shm" nightly --to="$tmp/nightly" >/dev/null
for i in 6 7 8; do
    change $i
    cbwctl backup "$shm" nightly --since=nightly --to="$tmp/nightly" --json \
           >"$tmp/nightly.json"
    is nightly 'j["mode"] == "incremental"'
    cmp "$tmp/disk" "$tmp/nightly"
done
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail "check"; }

# ---- The disk grows ----
stop_server disk
truncate -s 40000001 "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl backup "$shm" grown --since=auto --to="$tmp/nightly" --json \
       >"$tmp/grown.json"
# ... while it was not served: that is another disk for all that is known.
is grown 'j["mode"] == "full" and "not known any more" in j["reason"]'
cmp "$tmp/disk" "$tmp/nightly"
truncate -s 44000003 "$tmp/disk"
cbwctl backup "$shm" more --since=auto --to="$tmp/nightly" --json \
       >"$tmp/more.json"
is more 'j["mode"] == "incremental"'
cmp "$tmp/disk" "$tmp/nightly"
