#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A qcow2 disk, and old data in qcow2 too: each has a qemu-nbd that its
# user starts.  Both end with the filter's server, also if that is killed,
# and a new one goes on where it was.
set -e
. ./functions.sh
requires qemu-img qemu-nbd

start ()
{
    start_disk nbd command=qemu-nbd arg=-f arg=qcow2 arg="$tmp/disk.qcow2" \
               cbw-shm="$shm" \
               cbw-target="[ qemu-nbd -f qcow2 $tmp/old.qcow2 ]"
}
free ()
{
    # Else qemu-img is told that the image is in use.
    qemu-img check -q -f qcow2 "$1" 2>/dev/null
}
all_free ()
{
    wait_for 10 free "$tmp/disk.qcow2"
    wait_for 10 free "$tmp/old.qcow2"
}

random_file "$tmp/original" 1500000
truncate -s 3M "$tmp/original"
qemu-img convert -f raw -O qcow2 "$tmp/original" "$tmp/disk.qcow2"
qemu-img create -q -f qcow2 "$tmp/old.qcow2" 3M

start
scenario "$tmp/original"
stop_server disk
all_free

start
start_snap "$shm"
view_is "$tmp/original"
guest <<'PY'
h.pwrite (b"x" * 70000, 1000000)
PY
kill_server disk KILL
stop_server snap
all_free

start
start_snap "$shm"
view_is "$tmp/original"
guest <<'PY'
h.pwrite (b"y" * 700000, 100)
PY
view_is "$tmp/original"
stop_server snap
stop_server disk
all_free
