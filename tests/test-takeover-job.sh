#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot has a job of a kind that a later version has begun: a server that
# takes it over keeps the snapshot, says in its log that it refuses the job,
# and leaves the job as it is.

. ./functions.sh
set -e

random_file "$tmp/original" 1M
cp "$tmp/original" "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-snapshot=one \
           cbw-target="$tmp/target"
stop_server disk
segment set "$shm" entry.job.kind 7
segment set "$shm" entry.job.state 1
cbwctl check "$shm" >"$tmp/check"
expect_in "$tmp/check" "note: entry 0: its job is of kind 7"

start_disk file "$tmp/disk" cbw-shm="$shm"
expect_in "$tmp/disk.log" 'snapshot "one" has a job that this program does not know (kind 7)'
start_snap "$shm"
guest <<<"h.pwrite (b'x' * 100000, 3000)"
view_is "$tmp/original"
stop_server snap
stop_server disk
[ "$(segment get "$shm" entry.job.kind)" = 7 ] || fail "the job's kind"
[ "$(segment get "$shm" entry.job.state)" = 1 ] || fail "the job's state"

start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl drop "$shm" one >/dev/null
absent "$tmp/target"
