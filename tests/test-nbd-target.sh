#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The target is an NBD server: a URI, a command in brackets, with qcow2
# behind it or not.  The view is what the disk was, whatever the guest does.
set -e
. ./functions.sh
requires qemu-img qemu-nbd

check ()
{
    local target=$1
    random_file "$tmp/image" 4M
    fallocate -p -o 1M -l 1M "$tmp/image"
    cp "$tmp/image" "$tmp/old"
    start_disk file "$tmp/image" cbw-shm="$shm" cbw-target="$target"
    scenario "$tmp/old"
    cbwctl status --json "$shm" | json 'j["snapshots"][0]["target"]["format"] == "nbd"'
    cbwctl status "$shm" >"$tmp/status"
    expect_in "$tmp/status" "room unknown"
    cbwctl check "$shm" >/dev/null

    # The server comes and goes; what it had is still in the target.
    stop_server disk
    start_disk file "$tmp/image" cbw-shm="$shm" cbw-target="$target"
    start_snap "$shm"
    view_is "$tmp/old"
    stop_server snap
    cbwctl drop "$shm" snapshot >/dev/null
    stop_server disk
    rm "$shm"
}

uri ()
{
    echo "nbd+unix:///?socket=$tmp/target.sock"
}

start_nbdkit target memory 4M
check "$(uri)"
# Dropping has trimmed it: it can be used again.
check "$(uri)"
stop_server target

truncate -s 5M "$tmp/far"
start_nbdkit target file "$tmp/far"
check "$(uri)"
stop_server target

qemu-img create -q -f qcow2 "$tmp/old.qcow2" 4M
start_server target qemu-nbd -t -f qcow2 -k "$tmp/target.sock" \
             "$tmp/old.qcow2"
check "$(uri)"
stop_server target

qemu-img create -q -f qcow2 "$tmp/old.qcow2" 4M
check "[ qemu-nbd -f qcow2 $tmp/old.qcow2 ]"

# One that forgets everything when it ends is good until then.  The view
# must not show what its successor has instead.
random_file "$tmp/image" 4M
cp "$tmp/image" "$tmp/old"
start_disk file "$tmp/image" cbw-shm="$shm" \
           cbw-target="[ $NBDKIT --exit-with-parent memory 4M ]"
scenario "$tmp/old"
stop_server disk
start_disk file "$tmp/image" cbw-shm="$shm" cbw-commands=on
cbwctl status --json "$shm" | json 'j["snapshots"][0]["state"] == "broken"'
expect_in "$tmp/disk.log" "is back, but not what was written"
