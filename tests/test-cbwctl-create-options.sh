#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create's policies: wrong ones are refused, good ones are kept with
# the snapshot, shown by status as text and JSON, and outlive the server; and
# status --watch tells when a target will be full.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
start_disk file "$tmp/disk" cbw-shm="$shm"
bad () { cbwctl_fails 2 "$1" create "$shm" s "$2"; }
bad "--on-error=explode: must be break-snapshot or" --on-error=explode
bad "--on-error=: must be"                       --on-error=
bad "--timeout=-1: must be a number of seconds" --timeout=-1
bad "--timeout=2s: must be a number of seconds" --timeout=2s
bad "--timeout=1e10: must be a number"          --timeout=1e10
bad "--full=5: must be stall:SECS"              --full=5
bad "--full=stall:: must be a number"           --full=stall:
bad "--quota=big: is not a size"                --quota=big
bad "--quota=-1: is not a size"                 --quota=-1
bad "--hold-timeout=0: must be more than 0, and no more than 10 seconds" \
    --hold-timeout=0
bad "--hold-timeout=11: must be more than 0" --hold-timeout=11
bad "--hold-timeout=soon: must be a number" --hold-timeout=soon
cbwctl status "$shm" --json | json "j['snapshots'] == []"

cd "$tmp"
echo "0 1M" >areas
cbwctl create "$shm" all --on-error=break-guest-write --timeout=1.5 \
       --full=stall:7 --quota=3M --hold-timeout=2 --access=areas >/dev/null
cd - >/dev/null
cbwctl create "$shm" none >/dev/null
look ()
{
    cbwctl status "$shm" --json |
        json "[(s['on-cbw-error'], s['cbw-timeout'], s['full-stall'],
                s.get ('quota'), s['stalled'], 'error' in s)
               for s in j['snapshots']] ==
              [('break-guest-write', 1.5, 7, 3 << 20, False, False),
               ('break-snapshot', 0, 0, None, False, False)]"
    cbwctl status "$shm" >"$tmp/text"
    expect_in "$tmp/text" "on error   break-guest-write; timeout 1.5 s; if full, wait 7 s; quota 3 MiB, of which 0 bytes"
    expect_in "$tmp/text" "on error   break-snapshot"
    not_in "$tmp/text" STALLED
    cbwctl map "$shm" all --json |
        json "[(e['length'], e['type']) for e in j] == [(1 << 20, 0), (3 << 20, 2)]"
    cbwctl check "$shm" >/dev/null
}
look
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm"
look

# Its quota, at the rate it is being written.
cbwctl create "$shm" small --target="$tmp/small" --quota=1G >/dev/null
cbwctl status "$shm" --watch --interval=0.3 --count=3 >"$tmp/watch" &
watch=$!
guest <<PY
import os, time
for i in range (32):
    h.pwrite (os.urandom (65536), i * 131072)
    time.sleep (0.04)
PY
wait $watch
grep -qE '^small .* live, [0-9]+ (s|min|h)' "$tmp/watch" ||
    { cat "$tmp/watch"; fail "no time to full"; }
