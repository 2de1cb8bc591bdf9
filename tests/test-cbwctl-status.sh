#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl status, for people and as JSON: while the server works, is stopped
# by a signal, ended in good order, and was killed.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
cbwctl create "$shm" old >/dev/null
guest <<PY
h.pwrite (b"1" * 65536 * 3, 0)
PY
cbwctl create "$shm" new >/dev/null
guest <<PY
h.pwrite (b"2" * 100, 65536 * 10)
PY
reader <<PY
h.pread (65536, 0)
PY

look ()
{
    cbwctl status "$shm" --json >"$tmp/json"
    json "$1" <"$tmp/json"
    timeout 10 "$cbwctl" status "$shm" >"$tmp/text"
    local line
    shift
    for line; do
        expect_in "$tmp/text" "$line"
    done
}

snapshots="[(s['name'], s['state'], s['copied-clusters'], s['copied-bytes'],
             s['virtual-size'], s['clusters'], s['target']['found'])
            for s in j['snapshots']] ==
           [('old', 'live', 3, 3 * 65536, 4 << 20, 64, True),
            ('new', 'live', 1, 65536, 4 << 20, 64, True)] and
           j['snapshots'][0]['target']['filename'] == '$tmp/old.cow' and
           j['snapshots'][0]['target']['actual-size'] == 3 * 65536 and
           j['snapshots'][0]['target']['available'] > 0 and
           j['snapshots'][0]['id'] < j['snapshots'][1]['id']"
# Under a sanitizer or valgrind the pid is that of the wrapper's child.
pid=$(server_pid disk)
look "$snapshots and j['server']['alive'] and
      j['server']['state'] == 'running' and j['server']['pid'] == $pid and
      j['server']['generation'] == 1 and j['cluster-size'] == 65536 and
      j['virtual-size'] == 4 << 20 and
      j['counters']['requests'] >= 3 and j['counters']['read-bytes'] >= 65536
      and [c['name'] for c in j['clients'] if c['alive']] ==
          ['nbdkit snapshot-access']" \
     "running for" "process $pid" "old: live" "new: live" \
     "3 of 64 clusters (4.7 %), 192 KiB written" "$tmp/old.cow: 192 KiB used" \
     "nbdkit snapshot-access: process" "2 of at most 64"

# Looking leaves no trace: status is no client, no request.
cbwctl status "$shm" --json >"$tmp/again"
json "'status' not in str ([c['name'] for c in j['clients']])" <"$tmp/again"

# What clients have read without a request is counted too, whoever they were.
segment set "$shm" direct40.requests 5
segment set "$shm" direct40.read_bytes 1000000
segment set "$shm" direct63.requests 70
segment set "$shm" direct63.read_bytes 20000000
cbwctl status "$shm" --json | json "
    [j['counters'][c] - json.load (open ('$tmp/again'))['counters'][c]
     for c in ('requests', 'read-bytes')] == [75, 21000000]"
cbwctl status "$shm" | grep -q " done, 2[0-9.]* MiB read" ||
    fail "the text does not show what was read directly"

# Stopped: its lock says that it lives, and a request waits.
kill_server disk STOP
nbdsh -u "$snap" -c 'h.pread (512, 0)' &
reader=$!
waiting ()
{
    cbwctl status "$shm" --json |
        "$PYTHON" -c 'import json, sys
sys.exit (json.load (sys.stdin)["requests"]["submitted"] != 1)'
}
wait_for 10 waiting || fail "no request is waiting"
look "$snapshots and j['server']['alive']" "running for" "1 waiting, 0 running"
kill_server disk CONT
wait $reader

cbwctl drop "$shm" new >/dev/null
look "[s['state'] for s in j['snapshots']] == ['live', 'hidden']" \
     "new: hidden" "1 of at most 64, and 1 that cannot be read"

stop_server disk
look "not j['server']['alive'] and j['server']['state'] == 'stopped' and
      [s['state'] for s in j['snapshots']] == ['live', 'hidden']" \
     "stopped: process $pid" "start nbdkit --filter=cbw" "old: live"

start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
kill_server disk KILL
look "not j['server']['alive'] and j['server']['state'] == 'dead' and
      j['server']['generation'] == 2 and
      [s['state'] for s in j['snapshots']] == ['live', 'hidden']" \
     "dead, without a clean end" "start nbdkit --filter=cbw" "old: live"

rm "$tmp/old.cow"
look "not j['snapshots'][0]['target']['found']" "missing, or another file"
