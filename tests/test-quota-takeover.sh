#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter is killed again and again in the middle of copies.  The next
# one counts what the target holds, so the quota is not used up by copies
# that never came to their end.

. ./functions.sh
set -e

random_file "$tmp/disk" 32M
cp "$tmp/disk" "$tmp/old"
target_faults "$tmp/image"
serve ()
{
    start_disk --filter=log file "$tmp/disk" cbw-shm="$shm" \
               cbw-cluster-size=64k logfile="$tmp/requests"
}
reads ()
{
    grep -c ' Read .*\.\.\.' "$tmp/requests" || :
}
reads_are ()
{
    [ "$(reads)" -ge "$1" ]
}

# Kill the filter when it has read the old data of 16 pieces, and could
# write none of them.
# kill_it HANG GO-ON: commands, for the target
kill_it ()
{
    local before=$(reads)
    $1
    "$PYTHON" - <<PY &
import nbd
h = nbd.NBD ()
h.connect_uri ("$disk")
for i in range (16):
    h.aio_pwrite (nbd.Buffer.from_bytearray (b"x" * 524288), i * 524288)
try:
    while True:
        h.poll (-1)
except nbd.Error:
    pass
PY
    writer=$!
    wait_for 30 reads_are $(( before + 8 )) || fail "it copies nothing"
    kill_server disk KILL
    wait $writer
    $2
    serve
    check_held
}

# No more is held than what is in the target.
check_held ()
{
    local used=$(( $(stat -c %b "$tmp/image") * 512 ))

    status_is "snaps['s']['state'] == 'live'" || fail "s is not live"
    status_is "snaps['s']['held-bytes'] <= $used" ||
        fail "$used bytes are used: $(cbwctl status "$shm")"
}

# try TARGET HANG GO-ON
try ()
{
    local i
    serve
    cbwctl create "$shm" s --target="$1" --quota=12M >/dev/null
    for i in 1 2 3; do
        kill_it "$2" "$3"
    done
    nbdsh -u "$disk" -c 'h.pwrite (b"y" * 3000000, 16 << 20)'
    check_held
    status_is "snaps['s']['held-bytes'] >= 2949120" || fail "not counted"
    start_snap "$shm"
    view_is "$tmp/old"
    # The quota is still kept.
    nbdsh -u "$disk" -c '
for i in range (64):
    h.pwrite (b"z" * 524288, i * 524288)'
    status_is "snaps['s']['state'] == 'broken' and
               snaps['s']['held-bytes'] <= 12 << 20" ||
        fail "no quota: $(cbwctl status "$shm")"
    stop_server snap
    cbwctl drop "$shm" s >/dev/null
    stop_server disk
    cp "$tmp/old" "$tmp/disk"
    rm -f "$shm"
}

try "$tmp/image" "target_fault hang" "target_fault none"

rm -f "$tmp/image"
truncate -s 32M "$tmp/image"
unset CBW_TARGET CBW_TARGET_FAULT
start_nbdkit target file "$tmp/image"
try "nbd+unix:///?socket=$tmp/target.sock" \
    "kill_server target STOP" "kill_server target CONT"
