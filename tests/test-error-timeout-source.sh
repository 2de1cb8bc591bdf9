#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-timeout= with a disk that is slow to be read: the guest is released in
# time, and what was read too late is thrown away.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
for policy in break-snapshot break-guest-write; do
    start_disk --filter=delay file "$tmp/disk" delay-read=1 \
               cbw-shm="$shm" cbw-target="$tmp/target" \
               cbw-on-error=$policy cbw-timeout=0.3
    start_snap "$shm"
    guest <<PY
import errno, time
start = time.monotonic ()
try:
    h.pwrite (b"x" * 100, 70000)
    assert "$policy" == "break-snapshot"
except nbd.Error as e:
    assert "$policy" == "break-guest-write" and e.errnum == errno.EIO
took = time.monotonic () - start
assert 0.29 < took < 0.9, took
PY
    reader <<PY || fail "the view"
import errno
try:
    assert h.pread (512, 69632) == open ("$tmp/original", "rb").read ()[69632:70144]
    assert "$policy" == "break-guest-write"
except nbd.Error as e:
    assert "$policy" == "break-snapshot" and e.errnum == errno.EIO
PY
    cbwctl status "$shm" --json |
        json "j['snapshots'][0]['copied-clusters'] == 0 and
              j['snapshots'][0]['cbw-timeout'] == 0.3"
    stop_server snap
    stop_server disk
    rm "$shm" "$tmp/target"
    cp "$tmp/original" "$tmp/disk"
done
