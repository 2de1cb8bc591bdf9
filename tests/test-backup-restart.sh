#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter is killed again and again while it fills an image: the next one
# goes on where it was, and what is paused stays paused.

. ./functions.sh
set -e

random_file "$tmp/disk" 16M
truncate -s 20M "$tmp/disk"
cp "$tmp/disk" "$tmp/old"
serve ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=4k
}

serve
cbwctl backup "$shm" --to="$tmp/image" --speed=2M >"$tmp/out" 2>&1 &
pid=$!
wait_for 20 status_is "job['offset'] > 1000000" || fail "it does not start"
kill_server disk KILL
rc=0
wait $pid || rc=$?
[ $rc = 1 ] || fail "cbwctl: status $rc"
expect_in "$tmp/out" "continues when the server is started again"
status_is "job['status'] == 'running' and job['offset'] < job['len']"
cbwctl check "$shm" >/dev/null

last=0
for round in 1 2 3 4; do
    serve
    nbdsh -u "$disk" -c '
import os, random
for i in range (50):
    h.pwrite (os.urandom (5000), random.randrange (0, 20 * 1048576 - 5000))'
    wait_for 20 status_is "job['offset'] > $last + 500000" ||
        fail "it does not continue"
    [ $round != 3 ] || cbwctl create "$shm" s >/dev/null
    kill_server disk KILL
    cbwctl check "$shm" >/dev/null || fail "round $round"
    last=$(cbwctl status "$shm" --json | "$PYTHON" -c \
'import json,sys; print (json.load (sys.stdin)["snapshots"][0]["job"]["offset"])')
done

# Paused, and stopped in good order.
serve
cbwctl backup "$shm" --speed=1
cbwctl backup "$shm" --pause
stop_server disk
serve
status_is "job['status'] == 'paused' and job['speed'] == 1"
cbwctl backup "$shm" --speed=0
cbwctl backup "$shm" --resume
wait_for 20 status_is "job['status'] == 'concluded'" || fail "it does not end"

# Complete is complete, before and after a restart.
kill_server disk KILL
serve
status_is "job['status'] == 'concluded' and job['offset'] == job['len']"
cbwctl backup "$shm" >/dev/null
same "$tmp/image" "$tmp/old"
cbwctl check "$shm" >/dev/null
cbwctl drop "$shm" s >/dev/null

# Dropped in the chain: the next server knows that it is not to touch it.
cp "$tmp/disk" "$tmp/old"
cbwctl create "$shm" older --target="$tmp/older" >/dev/null
cbwctl backup "$shm" --to="$tmp/image2" >/dev/null
kill_server disk KILL
serve
same "$tmp/image2" "$tmp/old"
start_snap "$shm"
nbdsh -u "$disk" -c 'h.pwrite (b"x" * 100000, 0)'
view_is "$tmp/old"
cbwctl drop "$shm" older >/dev/null
same "$tmp/image2" "$tmp/old"
