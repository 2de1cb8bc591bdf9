#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create and drop: the snapshots come and go in nbdinfo --list of a
# view that is not restarted, each has the bytes of its moment, and the
# targets are where they should be, and gone after.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/first"

# The server need not be ready yet.
cbwctl create "$shm" early >"$tmp/out" &
early=$!
start_disk file "$tmp/disk" cbw-shm="$shm"
wait $early || fail "create did not wait for the server"
expect_in "$tmp/out" 'Created snapshot "early"'
cbwctl drop "$shm" early >/dev/null
start_snap "$shm"

names ()
{
    nbdinfo --list --json "$snap" |
        json "sorted ([e['export-name'] for e in j['exports'] if '..' not in e['export-name']]) == $1"
}

cbwctl create "$shm" first >"$tmp/out"
expect_in "$tmp/out" 'Created snapshot "first"'
expect_in "$tmp/out" "guests' writes were held for "
expect_in "$tmp/out" "$tmp/first.cow"
names "['first']"
guest <<PY
h.pwrite (b"1" * 1000000, 100000)
h.flush ()
PY
cp "$tmp/disk" "$tmp/second"

# A relative path is relative to where cbwctl runs.
(cd "$tmp" && cbwctl create ./shm 'the second ä' --target=elsewhere --json) |
    json "j['name'] == 'the second ä' and j['held-ns'] < 5e9 and
          j['segment'] == './shm' and
          j['target'] == {'filename': '$tmp/elsewhere', 'format': 'raw'}"
names "['first', 'the second ä']"
guest <<PY
h.pwrite (b"2" * 1000000, 700000)
h.zero (65536 * 3, 65536)
h.flush ()
PY
view_is "$tmp/first" "nbd+unix:///first?socket=$tmp/snap.sock"
view_is "$tmp/second" \
        "nbd+unix:///the%20second%20%C3%A4?socket=$tmp/snap.sock"
# The default export is the newest.
view_is "$tmp/second"

cbwctl drop "$shm" first >"$tmp/out"
expect_in "$tmp/out" 'Dropped snapshot "first".'
names "['the second ä']"
absent "$tmp/first.cow"
view_is "$tmp/second"

# Several at once; the name of one dropped can be used again, and a file
# that exists is replaced only if asked.
echo precious >"$tmp/first.cow"
cbwctl_fails 1 "exists and is not empty" create "$shm" first
[ "$(cat "$tmp/first.cow")" = precious ] || fail "the file was overwritten"
cbwctl create "$shm" first --force >"$tmp/out"
cp "$tmp/disk" "$tmp/third"
guest <<PY
h.pwrite (b"3" * 1000000, 0)
PY
view_is "$tmp/third"
cbwctl_fails 1 'there is no snapshot or checkpoint "unknown"' drop "$shm" first unknown
names "['first', 'the second ä']"
cbwctl drop "$shm" first 'the second ä' >"$tmp/out"
[ "$(wc -l <"$tmp/out")" -eq 2 ] || fail "one line for each"
names "[]"
absent "$tmp/first.cow" "$tmp/elsewhere"
