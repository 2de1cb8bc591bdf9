#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl status and map of a snapshot that is broken: the first error with
# its offset, time and text.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
# Reads of the old data at 1 MiB fail.
start_disk --filter=error file "$tmp/disk" cbw-shm="$shm" \
           error-pread-rate=100% error-pread=EIO \
           error-pread-file="$tmp/errors"
cbwctl create "$shm" snap >/dev/null
guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
touch "$tmp/errors"
guest <<PY
h.pwrite (b"1" * 65536, 1024 * 1024)
PY
rm "$tmp/errors"
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" \
          "snap: broken: copy failed at offset 1048576: Input/output error (20"
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['state'] == 'broken' and
          (lambda e: e['reason'] == 'copy' and e['errno'] == 5 and
           e['offset'] == 1 << 20 and abs (e['date-sec'] - j['date-sec']) < 100
           and 'Input/output error' in e['desc'])
          (j['snapshots'][0]['error'])"
cbwctl map "$shm" snap --json >"$tmp/map" 2>"$tmp/err"
json "j[0] == {'offset': 0, 'length': 65536, 'type': 1,
               'description': 'copied'}" <"$tmp/map"
expect_in "$tmp/err" 'snapshot "snap" cannot be read; it is broken'
cbwctl check "$shm" >/dev/null
cbwctl drop "$shm" snap >/dev/null
