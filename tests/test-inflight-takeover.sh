#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter is killed while guests' writes are under way in another server,
# on which the disk is, and they land after the next filter has taken a
# snapshot: that does not change.  It showed new data.

. ./functions.sh
set -e
requires nbdcopy
requires_plugin python nbd

random_file "$tmp/file" 20M
cp "$tmp/file" "$tmp/original"
start_nbdkit source python "$top_srcdir/tests/held-disk.py" disk="$tmp/file"
served ()
{
    start_disk nbd uri="nbd+unix:///?socket=$tmp/source.sock" \
               cbw-shm="$shm" cbw-cluster-size=64k
}
# Requests that the source has taken, and not answered when the filter is
# killed: guest_dies OFFSET COMMAND...
guest_dies ()
{
    touch "$tmp/file.hold"
    while [ $# -gt 0 ]; do
        nbdsh -u "$disk" -c "$2" 2>/dev/null &
        wait_for 30 test -e "$tmp/file.held.$1" || fail "nothing is under way"
        shift 2
    done
    kill_server disk KILL
    wait $(jobs -p | grep -vx "$(server_pid source)") || :
}
# They land now.
land ()
{
    rm "$tmp/file.hold"
    wait_for 30 landed || fail "the writes have not landed"
}

served
cbwctl create "$shm" old >/dev/null
guest_dies 0 "h.pwrite (b'N' * 4096, 0)" \
           1000000 "h.pwrite (b'N' * 100000, 1000000)"
served
# A write of the next guest, before the snapshot and over the same clusters.
guest <<PY
h.pwrite (b"g" * 5000, 1000)
h.flush ()
PY
cp "$tmp/file" "$tmp/is-new"
cbwctl create "$shm" new >/dev/null
start_snap "$shm"
new="nbd+unix:///new?socket=$tmp/snap.sock"
old="nbd+unix:///old?socket=$tmp/snap.sock"
view_is "$tmp/is-new" "$new"
landed ()
{
    [ "$(head -c 1 "$tmp/file")" = N ] &&
        [ "$(tail -c +1000001 "$tmp/file" | head -c 1)" = N ]
}
land
view_is "$tmp/is-new" "$new"
view_is "$tmp/original" "$old"
guest <<PY
h.pwrite (b"a" * 200000, 900000)
h.pwrite (b"a" * 10, 10)
PY
view_is "$tmp/is-new" "$new"
view_is "$tmp/original" "$old"
stop_server snap
cbwctl check "$shm" >/dev/null

# Nothing has told that it is over: after an orderly stop as well each new
# snapshot has these clusters for itself.  A backup has them too.
stop_server disk
served
cp "$tmp/file" "$tmp/is-newer"
cbwctl create "$shm" newer >/dev/null
cbwctl status "$shm" --json | json "
    [s['copied-clusters'] for s in j['snapshots'] if s['name'] == 'newer'] ==
    [3]"
cbwctl backup "$shm" full --to="$tmp/image" >/dev/null
same "$tmp/image" "$tmp/is-newer"

# More than can be preserved at once: snapshots are refused, and guests are
# served.
landed () { [ "$(tail -c 1 "$tmp/file" | od -An -tu1 | tr -d ' ')" = 0 ]; }
guest_dies $(( 11 << 20 )) "h.trim (9 << 20, 11 << 20)"
served
text="were left under way when a connection to it ended"
cbwctl_fails 1 "$text" create "$shm" no --target="$tmp/no"
cbwctl_fails 1 "$text" backup "$shm" no --to="$tmp/no"
absent "$tmp/no"
land
cbwctl_fails 1 "$text" create "$shm" no --target="$tmp/no"
guest <<PY
h.pwrite (b"b" * 200000, 15 << 20)
PY
start_snap "$shm"
view_is "$tmp/is-new" "$new"
view_is "$tmp/is-newer" "nbd+unix:///newer?socket=$tmp/snap.sock"
stop_server snap

# The way out that is named.
stop_server disk
rm "$shm"
served
cp "$tmp/file" "$tmp/is-last"
cbwctl create "$shm" last --target="$tmp/last" >/dev/null
guest <<PY
h.pwrite (b"c" * 200000, 15 << 20)
PY
start_snap "$shm"
view_is "$tmp/is-last"
