#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What a killed filter wrote to an NBD target, and had not flushed, the next
# one flushes when it stops, though it has written nothing itself.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
start_server target "$NBDKIT" -f -U "$tmp/target.sock" --filter=log memory 1M \
             logfile="$tmp/requests"
start_disk file "$tmp/disk" cbw-shm="$shm" \
           cbw-target="nbd+unix:///?socket=$tmp/target.sock"
guest <<'PY'
h.pwrite (b"x" * 100000, 0)
PY
grep -q ' Write ' "$tmp/requests" || fail "nothing was written to the target"
kill_server disk KILL
before=$(grep -c ' Flush ' "$tmp/requests" || :)
start_disk file "$tmp/disk" cbw-shm="$shm"
stop_server disk
after=$(grep -c ' Flush ' "$tmp/requests" || :)
[ "$after" -gt "$before" ] || fail "the target was not flushed"
