#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter stops in good order while its NBD target is away.  If all had
# been flushed before, the snapshot is as good as it was.  If the filter
# before was killed, nobody knows that, and the snapshot is broken.
set -e
. ./functions.sh

uri="nbd+unix:///?socket=$tmp/target.sock"
truncate -s 1M "$tmp/target"
random_file "$tmp/image" 1M
cp "$tmp/image" "$tmp/old"

state_is ()
{
    cbwctl status --json "$shm" | json "j['snapshots'][0]['state'] == '$1'"
}

# Twice in a row: what a filter that never reached the target leaves behind is
# no worse than what it found.
start_nbdkit target file "$tmp/target"
start_disk file "$tmp/image" cbw-shm="$shm" cbw-target="$uri" \
           cbw-on-error=break-guest-write
guest <<'PY'
h.pwrite (b"1" * 100000, 0)
PY
stop_server disk
stop_server target
for i in 1 2; do
    start_disk file "$tmp/image" cbw-shm="$shm"
    state_is live
    stop_server disk
done

# What was there is still looked for: it is the same server with the same
# data, and then the snapshot is whole.
start_nbdkit target file "$tmp/target"
start_disk file "$tmp/image" cbw-shm="$shm"
state_is live
start_snap "$shm"
view_is "$tmp/old"
stop_server snap

# A write that a killed filter may not have flushed.
guest <<'PY'
h.pwrite (b"2" * 100000, 500000)
PY
kill_server disk KILL
stop_server target
start_disk file "$tmp/image" cbw-shm="$shm"
state_is live
stop_server disk
state_is broken

# One that has forgotten what was flushed is found out all the same.
rm "$shm" "$tmp/target"
truncate -s 1M "$tmp/target"
start_nbdkit target file "$tmp/target"
start_disk file "$tmp/image" cbw-shm="$shm" cbw-target="$uri" \
           cbw-on-error=break-guest-write
guest <<'PY'
h.pwrite (b"3" * 100000, 0)
PY
stop_server disk
stop_server target
start_nbdkit target memory 1M
start_disk file "$tmp/image" cbw-shm="$shm"
state_is broken
expect_in "$tmp/disk.log" "is back, but not what was written"
