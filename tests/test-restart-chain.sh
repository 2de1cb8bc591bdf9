#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter is stopped, or killed under load, with several snapshots, some
# of them hidden: the next one has them all, each whole, and hidden ones go
# on giving back their space.

. ./functions.sh
set -e

for signal in TERM KILL; do
    rm -f "$shm" "$tmp"/*.cow
    random_file "$tmp/disk" 8M
    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm" timeout=30
    for i in 1 2 3 4 5 6; do
        cp "$tmp/disk" "$tmp/is-s$i"
        cbwctl create "$shm" s$i >/dev/null
        guest <<PY
import os, random
random.seed ($i)
for i in range (8):
    n = random.randrange (1, 200000)
    h.pwrite (os.urandom (n), random.randrange (8 * 1024 * 1024 - n))
h.flush ()
PY
    done
    # In the middle, beside it, and the newest.
    cbwctl drop "$shm" s3 s4 s6 >/dev/null

    views_are_right ()
    {
        for s in s1 s2 s5; do
            view_is "$tmp/is-$s" "nbd+unix:///$s?socket=$tmp/snap.sock"
        done
        cbwctl check "$shm" >"$tmp/out" || { cat "$tmp/out"; fail check; }
    }
    views_are_right

    for round in 1 2 3; do
        # Writes that are under way as it ends.
        nbdsh -u "$disk" -c "
import os, random
random.seed ($round)
try:
    for i in range (1 << 30):
        if i == 10:
            open ('$tmp/writing', 'w').close ()
        n = random.randrange (1, 100000)
        h.pwrite (os.urandom (n), random.randrange (8 * 1024 * 1024 - n))
except nbd.Error:
    pass" &
        writer=$!
        wait_for 30 test -e "$tmp/writing" || fail "no load"
        rm "$tmp/writing"
        if [ $signal = TERM ]; then
            stop_server disk
        else
            kill_server disk KILL
        fi
        wait $writer
        cbwctl check "$shm" >"$tmp/out" || { cat "$tmp/out"; fail check; }
        start_disk file "$tmp/disk" cbw-shm="$shm"
        cbwctl status "$shm" --json |
            json "[(s['name'], s['state']) for s in j['snapshots']] ==
                  [('s1', 'live'), ('s2', 'live'), ('s3', 'hidden'),
                   ('s4', 'hidden'), ('s5', 'live'), ('s6', 'hidden')] and
                  j['server']['generation'] == $round + 1"
        views_are_right
    done

    # The restarted one knows how to let go.
    cbwctl drop "$shm" s1 >/dev/null
    absent "$tmp/s1.cow"
    cbwctl drop "$shm" s2 >/dev/null
    absent "$tmp/s2.cow" "$tmp/s3.cow" "$tmp/s4.cow"
    view_is "$tmp/is-s5" "nbd+unix:///s5?socket=$tmp/snap.sock"
    cbwctl drop "$shm" s5 >/dev/null
    absent "$tmp"/*.cow
    stop_server snap
    stop_server disk
done
