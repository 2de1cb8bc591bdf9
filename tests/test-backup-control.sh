#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A backup is throttled, paused, resumed, cancelled, left alone and waited
# for again; and outlives the cbwctl that began it.

. ./functions.sh
set -e

random_file "$tmp/disk" 8M
cp "$tmp/disk" "$tmp/old"
start_disk file "$tmp/disk" cbw-shm="$shm"

settled ()
{
    cbwctl status "$shm" --json |
        "$PYTHON" -c 'import sys,json;print(json.load(sys.stdin)["snapshots"][0]["job"]["offset"])'
}

cbwctl backup "$shm" b --to="$tmp/image" --speed=1M --detach
status_is "job['status'] == 'running' and job['speed'] == 1048576"
status_is "job['len'] == 8388608 and job['on-source-error'] == 'report'"
cbwctl status "$shm" | grep -q 'backup  *running'
cbwctl backup "$shm" b --pause
status_is "job['status'] == 'paused'"
a=$(settled)
[ "$a" -lt 8388608 ] || fail "no speed limit was kept"
cbwctl backup "$shm" --pause            # is the same
cbwctl backup "$shm" --speed=0
nap; nap
b=$(settled)
[ $(( b - a )) -le 1048576 ] || fail "it is not paused"

# It is done when it is resumed; and stays there until somebody looks.
cbwctl backup "$shm" b --resume
wait_for 20 status_is \
         "job['status'] == 'concluded' and job['offset'] == 8388608" ||
    fail "it does not end"
cbwctl_fails 1 'is complete' backup "$shm" b --pause
cbwctl_fails 1 'is complete' backup "$shm" b --cancel
cbwctl backup "$shm" | grep -q complete
same "$tmp/image" "$tmp/old"
status_is 'j["snapshots"] == []'
cbwctl_fails 1 'no backup is under way' backup "$shm"
cbwctl_fails 1 'there is no backup "b"' backup "$shm" b

# drop of a complete one is no way to lose it.
cbwctl backup "$shm" --to="$tmp/image2" --detach
wait_for 20 status_is "job['status'] == 'concluded'"
cbwctl drop "$shm" backup >/dev/null
same "$tmp/image2" "$tmp/old"

# Has the process a handler for SIGTERM, and is it cbwctl?  (It may be this
# shell for a moment.)
catches ()
{
    local mask

    grep -q cbwctl "/proc/$1/comm" || return 1
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$1/status")
    [ $(( 0x$mask >> 14 & 1 )) = 1 ]
}

# Cancelled, by option, by drop, and by ^C: the image goes.
for how in --cancel drop INT TERM; do
    "$cbwctl" backup "$shm" --to="$tmp/image3" --speed=100k >"$tmp/out" 2>&1 &
    pid=$!
    wait_for 20 status_is "job['status'] == 'running'" ||
        fail "it does not start"
    rc=0
    case $how in
        --cancel) cbwctl backup "$shm" --cancel ;;
        drop) cbwctl drop "$shm" backup >/dev/null ;;
        # Not before it listens for them.
        *) wait_for 20 catches $pid || fail "it does not wait"
           kill -$how $pid ;;
    esac
    wait $pid || rc=$?
    [ $rc = 1 ] || fail "$how: status $rc"
    expect_in "$tmp/out" cancelled
    status_is 'j["snapshots"] == []'
    absent "$tmp/image3"
done

# The terminal is closed: cbwctl ends, and the backup continues.
"$cbwctl" backup "$shm" --to="$tmp/image3" --speed=100k >"$tmp/out" 2>&1 &
pid=$!
wait_for 20 status_is "job['status'] == 'running'" || fail "it does not start"
wait_for 20 catches $pid || fail "it does not wait"
kill -HUP $pid
rc=0
wait $pid || rc=$?
[ $rc = 1 ] || fail "SIGHUP: status $rc"
expect_in "$tmp/out" "the backup continues"
status_is "job['status'] == 'running'"
# With nohup, it is not even told.
( trap '' HUP; exec "$cbwctl" backup "$shm" >"$tmp/out" 2>&1 ) &
pid=$!
wait_for 20 catches $pid || fail "it does not wait"
kill -HUP $pid
cbwctl backup "$shm" --speed=0
wait $pid || fail "SIGHUP was not ignored"
expect_in "$tmp/out" "Backup complete"
same "$tmp/image3" "$tmp/old"
rm "$tmp/image3"

# Killed, it is not missed.
"$cbwctl" backup "$shm" --to="$tmp/image4" --speed=1M >/dev/null 2>&1 &
pid=$!
wait_for 20 status_is "job['status'] == 'running'"
kill -KILL $pid
wait $pid || :
cbwctl backup "$shm" --speed=0
cbwctl backup "$shm" >/dev/null
same "$tmp/image4" "$tmp/old"

# Two at a time; then their names are needed.
cbwctl backup "$shm" x --to="$tmp/x" --detach --speed=1M
cbwctl backup "$shm" y --to="$tmp/y" --detach
cbwctl_fails 1 'there are 2 backups' backup "$shm"
cbwctl_fails 1 'already' backup "$shm" x --to="$tmp/z"
cbwctl backup "$shm" y >/dev/null
cbwctl backup "$shm" x --speed=0
cbwctl backup "$shm" x >/dev/null
same "$tmp/x" "$tmp/old"
same "$tmp/y" "$tmp/old"

# A snapshot is no backup, nor can a backup be discarded from.
cbwctl create "$shm" s --target="$tmp/s" >/dev/null
cbwctl_fails 1 'no backup "s"' backup "$shm" s --pause
cbwctl backup "$shm" x --to="$tmp/w" --detach --speed=1
start_snap "$shm" discard=true
nbdsh -u "nbd+unix:///x?socket=$tmp/snap.sock" -c '
try:
    h.trim (65536, 0)
    assert False
except nbd.Error as e:
    assert e.errno == "EPERM", e
assert h.pread (65536, 0) == open ("'"$tmp/old"'", "rb").read (65536)'
