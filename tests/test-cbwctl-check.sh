#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl check finds nothing wrong with a segment in use, also under load,
# nor with what a server leaves behind that was stopped, or killed.

. ./functions.sh
set -e

random_file "$tmp/disk" 16M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=4k

good ()
{
    cbwctl check "$shm" >"$tmp/out" || { cat "$tmp/out" >&2; fail "$1"; }
    expect_in "$tmp/out" "$shm: no problems found"
    cbwctl check "$shm" --json |
        json "j['corruptions'] == 0 and j['problems'] == [] and
              j['filename'] == '$shm'"
}

load ()
{
    nbdsh -u "$disk" -c '
import os, random
random.seed (1)
while not os.path.exists ("'"$tmp/stop"'"):
    h.pwrite (b"x" * 20000, random.randrange (16 * 1024 * 1024 - 20000))' \
        2>/dev/null || :
}

good "an empty table"
load &
load=$!
for i in 1 2 3 4 5 6; do
    cbwctl create "$shm" "s$i" >/dev/null
    good "under load, $i snapshots"
done
cbwctl drop "$shm" s3 s6 >/dev/null
good "two are hidden"
kill_server disk KILL
touch "$tmp/stop"
wait $load
good "after a kill"
expect_in "$tmp/out" "note: the server did not end in good order"
start_disk file "$tmp/disk" cbw-shm="$shm"
good "taken over"
stop_server disk
good "stopped"
not_in "$tmp/out" "note:"
