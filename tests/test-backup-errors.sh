#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Errors while a backup fills its image, of the disk and of the image: each
# policy does what it does in QEMU.

. ./functions.sh
set -e

target_faults "$tmp/image"
random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/old"
start_disk --filter=error file "$tmp/disk" cbw-shm="$shm" \
           error-pread=EIO error-pread-rate=100% error-pread-file="$tmp/bad"


break_it ()
{
    case $side in
        source) touch "$tmp/bad" ;;
        target) target_fault errno "$1" 1000000 ;;
    esac
}
mend ()
{
    rm -f "$tmp/bad"
    target_fault none
}
begin ()
{
    cbwctl backup "$shm" --to="$tmp/image" "$@"
}

for side in source target; do
    text=$([ $side = source ] && echo "reading the disk" ||
               echo "writing the image")
    # report
    break_it 5
    cbwctl_fails 1 "failed: $text at offset" backup "$shm" --to="$tmp/image"
    expect_in "$tmp/refused.log" "Input/output error"
    status_is 'j["snapshots"] == []'
    absent "$tmp/image"

    # enospc is report for any other error
    cbwctl_fails 1 "failed: $text" backup "$shm" --to="$tmp/image" \
                 --on-$side-error=enospc

    # ignore: tried again
    begin --on-$side-error=ignore --detach
    wait_for 20 status_is "job['errors'] > 0" || fail "no error"
    status_is "job['status'] == 'running'"
    status_is "job['error']['errno'] == 5"
    mend
    cbwctl backup "$shm" >/dev/null
    same "$tmp/image" "$tmp/old"
    rm "$tmp/image"

    # stop: waits for somebody
    break_it 5
    begin --on-$side-error=stop >"$tmp/out" 2>&1 &
    pid=$!
    wait_for 20 status_is "job['status'] == 'stopped'" ||
        fail "it does not stop"
    wait_for 20 grep -q -- '--resume' "$tmp/out" || fail "nobody is told"
    expect_in "$tmp/out" "$text at offset"
    cbwctl backup "$shm" --resume       # too early
    wait_for 20 status_is "job['status'] == 'stopped' and job['errors'] > 1"
    mend
    cbwctl backup "$shm" --resume
    wait $pid || fail "it failed after it was resumed"
    same "$tmp/image" "$tmp/old"
    rm "$tmp/image"
done

# No space: stop, and go on when there is some.
side=target
break_it 28
begin --on-target-error=enospc --detach
wait_for 20 status_is "job['status'] == 'stopped'" || fail "it does not stop"
status_is "job['error']['errno'] == 28"
mend
cbwctl backup "$shm" --resume
cbwctl backup "$shm" >/dev/null
same "$tmp/image" "$tmp/old"
rm "$tmp/image"

# A copy for a guest fails: the snapshot breaks, and with it the backup; or
# the guest's write fails, and the backup goes on.
begin --speed=1 --detach
break_it 5
nbdsh -u "$disk" -c 'h.pwrite (b"x" * 512, 3000000)'
cbwctl_fails 1 "failed" backup "$shm"
absent "$tmp/image"
mend
cp "$tmp/disk" "$tmp/old"
begin --speed=1 --detach --on-error=break-guest-write --on-target-error=stop
break_it 5
nbdsh -u "$disk" -c '
try:
    h.pwrite (b"y" * 512, 3000000)
    assert False
except nbd.Error as e:
    assert e.errno == "EIO", e'
mend
cbwctl backup "$shm" --resume           # if it met the error too
cbwctl backup "$shm" --speed=0
cbwctl backup "$shm" >/dev/null
same "$tmp/image" "$tmp/old"
