#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Checkpoints: made, shown with how much has changed since, drawn as deltas,
# left by snapshots, and dropped, which changes no other delta; also when the
# server is stopped, or was killed.

. ./functions.sh
set -e

# Not a multiple of the cluster size.
size=$(( 64 * 65536 - 1000 ))
truncate -s $size "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k

# write FIRST NUMBER: clusters of the guest's disk
write ()
{
    guest <<PY
h.pwrite (b"$1" [:1] * min ($2 * 65536, $size - $1 * 65536), $1 * 65536)
PY
}

# points NAME=KIND=CHANGED...: these, oldest first, with clusters changed
# since (one that is cut off counts), and no others.
points ()
{
    local is
    is=$(cbwctl status "$shm" --json | "$PYTHON" -c '
import json, sys
j = json.load (sys.stdin)
size = '$size'
for p in j["points"]:
    assert p["state"] == "valid" and p["reason"] is None, p
    assert p["virtual-size"] == size
    assert 0 <= p["age-ns"] < 600e9 and p["date-sec"] > 1e9
    assert abs (p["changed-percent"] - 100 * p["changed-bytes"] / size) < 1e-6
assert [p["id"] for p in j["points"]] == sorted (p["id"] for p in j["points"])
assert j["damaged-points"] == 0
print (*("%s=%s=%d" % (p["name"], p["kind"], -(-p["changed-bytes"] // 65536))
         for p in j["points"]))')
    [ "$is" = "$*" ] || fail "the points are \"$is\", not \"$*\""
}

# delta NAME [(OFFSET, CLUSTERS)...]: a Python list of what has changed
delta ()
{
    cbwctl map "$shm" "$1" --json |
        json "[(x['offset'] // 65536, -(-x['length'] // 65536))
               for x in j if x['description'] == 'changed'] == $2 and
              all (x['type'] == ['unchanged', 'changed'].index
                   (x['description']) for x in j) and
              sum (x['length'] for x in j) == $size"
}

points ""
cbwctl status "$shm" >"$tmp/text"
not_in "$tmp/text" "checkpoint"

cbwctl checkpoint "$shm" a >"$tmp/out"
expect_in "$tmp/out" 'Made checkpoint "a"; guests'"' writes were held for "
points a=checkpoint=0
write 0 2
cbwctl create "$shm" s1 >/dev/null
write 1 3
cbwctl checkpoint "$shm" b --hold-timeout=5 --json |
    json "j['segment'] == '$shm' and j['name'] == 'b' and j['held-ns'] < 5e9"
write 10 1
write 63 1
cbwctl create "$shm" s2 >/dev/null
points a=checkpoint=6 s1=snapshot=5 b=checkpoint=2 s2=snapshot=0

# The last cluster is cut off.
cbwctl status "$shm" --json | json "j['points'][2]['changed-bytes'] ==
                                    2 * 65536 - 1000"

delta a..s1 "[(0, 2)]"
delta a..s2 "[(0, 4), (10, 1), (63, 1)]"
delta s1..s2 "[(1, 3), (10, 1), (63, 1)]"
delta b.. "[(10, 1), (63, 1)]"
delta s2..s2 "[]"
# What comes later is not in it.
write 20 5
delta b.. "[(10, 1), (63, 1)]"
points a=checkpoint=11 s1=snapshot=10 b=checkpoint=7 s2=snapshot=5

cbwctl map "$shm" b..s2 --plain >"$tmp/plain"
cat >"$tmp/expected" <<END
         0      655360    0  unchanged
    655360       65536    1  changed
    720896     3407872    0  unchanged
   4128768       64536    1  changed
END
same "$tmp/expected" "$tmp/plain"
COLUMNS=43 cbwctl map "$shm" b.. >"$tmp/picture"
cat >"$tmp/expected" <<END
b..s2: 4.0 MiB in 64 clusters

   0 bytes ..........#.....................
     2 MiB ...............................#

Each character is 1 cluster, 64 KiB:
  # changed: 2 clusters, 128 KiB (3.1 %)
  . unchanged: 62 clusters, 3.9 MiB (96.9 %)
END
diff -u "$tmp/expected" "$tmp/picture" || fail "the picture"

cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "points     4 of at most 256, of which 2 are checkpoints"
expect_in "$tmp/text" "b: checkpoint, valid"
sed -n '/^s1: live/,/^$/p' "$tmp/text" >"$tmp/part"
expect_in "$tmp/part" "changed    639 KiB since then (15.6 % of the disk)"
sed -n '/^b: checkpoint/,/^$/p' "$tmp/text" >"$tmp/part"
expect_in "$tmp/part" "changed    447 KiB since then (10.9 % of the disk)"
expect_in "$tmp/part" "ago; the disk had 4.0 MiB"

# Names that cannot be.
cbwctl_fails 1 'there is a snapshot or checkpoint "a"' create "$shm" a
absent "$tmp/a.cow"
cbwctl_fails 1 'there is a snapshot or checkpoint "b"' checkpoint "$shm" b
cbwctl_fails 1 'there is a snapshot "s1"' checkpoint "$shm" s1
cbwctl_fails 1 'contains ".."' checkpoint "$shm" x..y
cbwctl_fails 1 'no snapshot or checkpoint "x"' map "$shm" x..s2
cbwctl_fails 1 'there is no snapshot "b"; a delta ends at one' map "$shm" a..b
cbwctl_fails 1 'there is no snapshot "x"' map "$shm" a..x
cbwctl_fails 1 '"s2" is newer than "s1"' map "$shm" s2..s1
cbwctl_fails 1 'is no delta: that is A..B' map "$shm" ..s1
cbwctl_fails 1 'there is no snapshot "a"' map "$shm" a

# One that is unknown, or cannot be left: nothing happens.
cbwctl_fails 1 'no snapshot or checkpoint "x"' drop "$shm" b s1 x
cbwctl_fails 1 '"b" is a checkpoint already' \
             drop "$shm" s1 b --keep-checkpoint
points a=checkpoint=11 s1=snapshot=10 b=checkpoint=7 s2=snapshot=5

# A snapshot leaves a checkpoint.
cbwctl drop "$shm" s1 --keep-checkpoint >"$tmp/out"
expect_in "$tmp/out" 'Dropped snapshot "s1"; its checkpoint stays.'
absent "$tmp/s1.cow"
points a=checkpoint=11 s1=checkpoint=10 b=checkpoint=7 s2=snapshot=5
delta s1..s2 "[(1, 3), (10, 1), (63, 1)]"
cbwctl_fails 1 'there is a snapshot or checkpoint "s1"' create "$shm" s1
cbwctl_fails 1 'there is no snapshot "s1"' map "$shm" s1

# The one before gets what was marked after one that is dropped.
cbwctl drop "$shm" s1 >"$tmp/out"
expect_in "$tmp/out" 'Dropped checkpoint "s1".'
points a=checkpoint=11 b=checkpoint=7 s2=snapshot=5
delta a..s2 "[(0, 4), (10, 1), (63, 1)]"
cbwctl_fails 1 'no snapshot or checkpoint "s1"' map "$shm" s1..s2

# So does the newest's, and a snapshot's that leaves nothing behind.
cbwctl drop "$shm" s2 >"$tmp/out"
expect_in "$tmp/out" 'Dropped snapshot "s2".'
points a=checkpoint=11 b=checkpoint=7
write 30 1
points a=checkpoint=12 b=checkpoint=8
cbwctl_fails 1 "there is no snapshot that a delta could end at" map "$shm" a..
cbwctl create "$shm" s1 >/dev/null      # the name can be used again
delta b.. "[(10, 1), (20, 5), (30, 1), (63, 1)]"
cbwctl check "$shm" >/dev/null
# Without an older one it goes for good.
cbwctl drop "$shm" a >"$tmp/out"
points b=checkpoint=8 s1=snapshot=0

# Backups are points, too.
cbwctl backup "$shm" full --to="$tmp/full.img" --detach >/dev/null
cbwctl status "$shm" --json | json "[(p['name'], p['kind'])
                                     for p in j['points']][-1] ==
                                    ('full', 'backup')"
cbwctl backup "$shm" full >/dev/null
points b=checkpoint=8 s1=snapshot=0 full=backup=0
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "full: checkpoint of a backup, valid"
expect_in "$tmp/text" "points     3 of at most 256, of which 2 are checkpoints"
cbwctl drop "$shm" full >"$tmp/out"
expect_in "$tmp/out" 'Dropped checkpoint "full".'

# Without a server.
points b=checkpoint=8 s1=snapshot=0
write 40 1
stop_server disk
points b=checkpoint=9 s1=snapshot=1
delta b.. "[(10, 1), (20, 5), (30, 1), (63, 1)]"
start_disk file "$tmp/disk" cbw-shm="$shm"
write 41 1
kill_server disk KILL
points b=checkpoint=10 s1=snapshot=2
delta b.. "[(10, 1), (20, 5), (30, 1), (63, 1)]"

# A server that marks nothing: changes cannot be told any more.
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-track=off
cbwctl status "$shm" --json |
    json "[(p['name'], p['state'], p['reason'], p['changed-bytes'],
            p['changed-percent']) for p in j['points']] ==
          [(n, 'invalid', 'the disk was served by a filter that does not '
            'mark changes', None, None) for n in ('b', 's1')]"
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "b: checkpoint, invalid"
expect_in "$tmp/text" "changed    not known any more: the disk was served by a"
cbwctl status "$shm" --watch --count=1 >"$tmp/text"
expect_in "$tmp/text" "checkpoint, invalid"
cbwctl_fails 1 'changes since "b" are not known any more' map "$shm" b..s1
cbwctl_fails 1 "cbw-track=off" checkpoint "$shm" c
cbwctl create "$shm" s3 >/dev/null
cbwctl_fails 1 'no checkpoint can be left of snapshot "s3"' \
             drop "$shm" s3 --keep-checkpoint
cbwctl drop "$shm" b s3 >/dev/null
cbwctl status "$shm" --json | json "[p['name'] for p in j['points']] == ['s1']"
