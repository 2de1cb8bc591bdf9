#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-quota=: a target holds no more than that; beyond it counts as full, by
# policy and stall.  Zeroes do not count, and what is given back does not.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-quota=512k cbw-on-error=break-guest-write
start_snap "$shm" discard=true
guest <<PY
import errno
h.pwrite (b"1" * 512 * 1024, 0)                 # just fits
for op in [lambda: h.pwrite (b"2", 1024 * 1024),
           lambda: h.zero (65536, 2 * 1024 * 1024),
           lambda: h.trim (1024 * 1024, 2 * 1024 * 1024)] * 3:
    try:
        op ()
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.ENOSPC, e
h.pwrite (b"1" * 512 * 1024, 0)                 # needs no copy
PY
view_is "$tmp/original"
[ $(( $(stat -c %b "$tmp/target") * 512 )) -le 524288 ] || fail "too much"
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['held-bytes'] == 524288 and
          j['snapshots'][0]['quota'] == 524288 and
          j['snapshots'][0]['error']['errno'] == 122"
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "break-guest-write; quota 512 KiB, of which 512 KiB"
expect_in "$tmp/text" "live, but a guest's write failed: copy at offset "

# Discarding makes room for as much.
nbdsh -u "$snap" -c 'h.trim (131072, 65536)'
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['held-bytes'] == 524288 - 131072"
guest <<PY
import errno
h.pwrite (b"3" * 131072, 1024 * 1024)
try:
    h.pwrite (b"3", 2 * 1024 * 1024)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.ENOSPC, e
PY
stop_server snap
cbwctl drop "$shm" snapshot >/dev/null

# A write that waits does not use up the quota by trying: here the first
# half of what it needs fits, again and again.
guest <<PY
import os
for offset in 0, 2 * 65536, 4 * 65536:
    h.pwrite (os.urandom (65536), offset)
    h.zero (65536, offset + 65536)
PY
cbwctl create "$shm" s --quota=128k --full=stall:0.5 >/dev/null
guest <<PY
h.pwrite (b"4" * 5 * 65536, 0)
PY
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['state'] == 'broken' and
          j['snapshots'][0]['held-bytes'] <= 131072"
