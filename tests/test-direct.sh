#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Snapshots of a file are read directly, in whatever state they are; what
# cannot be read so is read through the filter, and is the same.

. ./functions.sh
set -e
requires nbdcopy

# directly FILE [URI]: the view is FILE, and (at most a few requests of) it
# was not asked for.
directly ()
{
    local before after
    before=$(segment direct "$shm")
    view_is "$@"
    after=$(segment direct "$shm")
    [ $(( after - before )) -gt 8 ] || fail "$1 was read through the filter"
}

asked ()
{
    local before after
    before=$(segment direct "$shm")
    view_is "$@"
    after=$(segment direct "$shm")
    [ "$before" -eq "$after" ] || fail "$1 was read directly"
}

export_of () { echo "nbd+unix:///$1?socket=$tmp/snap.sock"; }

truncate -s 8M "$tmp/disk"
head -c 3000000 /dev/urandom | dd of="$tmp/disk" conv=notrunc status=none
cp "$tmp/disk" "$tmp/one"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target-one" \
           cbw-snapshot=one cbw-cluster-size=4k
start_snap "$shm" direct=auto

directly "$tmp/one"
guest <<PY
import os, random
random.seed (1)
for i in range (300):
    h.pwrite (os.urandom (4096), random.randrange (2048) * 4096)
h.trim (1024 * 1024, 1024 * 1024)
h.flush ()
PY
directly "$tmp/one"

# Two, the older of which looks through the newer.
cbwctl create "$shm" two --target="$tmp/target-two" >/dev/null
cp "$tmp/disk" "$tmp/two"
guest <<<"h.pwrite (b'x' * 8388608, 0)"
directly "$tmp/one" "$(export_of one)"
directly "$tmp/two" "$(export_of two)"

# Targets that are no files; a backup while it is filled; and direct=off.
start_nbdkit memory memory 8M
cbwctl create "$shm" far --target="nbd+unix:///?socket=$tmp/memory.sock" \
       >/dev/null
cp "$tmp/disk" "$tmp/far"
guest <<<"h.pwrite (b'y' * 8388608, 0)"
asked "$tmp/far" "$(export_of far)"
directly "$tmp/two" "$(export_of two)"
start_nbdkit off "$plugin" "$shm" direct=off
asked "$tmp/two" "nbd+unix:///two?socket=$tmp/off.sock"
stop_server off

# The filter does not allow it; allows it again.
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-direct=off
asked "$tmp/two" "$(export_of two)"
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm"
directly "$tmp/two" "$(export_of two)"

# Counted, like others.
cbwctl status "$shm" --json |
    json "j['counters']['requests'] >= $(segment direct "$shm")"
