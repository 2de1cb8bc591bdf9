#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl map: what a snapshot reads from a target, whichever in the chain
# holds it, and what from the disk.

. ./functions.sh
set -e

# Not a multiple of the cluster size.
truncate -s $(( 64 * 65536 - 1000 )) "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl create "$shm" old >/dev/null
guest <<PY
h.pwrite (b"1", 0)
h.pwrite (b"1" * 131072, 65536 * 10)
PY
cbwctl create "$shm" middle >/dev/null
guest <<PY
h.pwrite (b"2" * 131072, 65536 * 11)
PY
cbwctl create "$shm" new >/dev/null
guest <<PY
h.pwrite (b"3", 64 * 65536 - 1001)
PY

map_is ()
{
    cbwctl map "$shm" "$1" --json |
        json "[(x['offset'] // 65536, -(-x['length'] // 65536),
                x['description']) for x in j] == $2 and
              all (x['type'] == ['untouched', 'copied',
                                 'inaccessible'].index (x['description'])
                   for x in j) and
              sum (x['length'] for x in j) == 64 * 65536 - 1000"
}
maps_are_right ()
{
    map_is old "[(0, 1, 'copied'), (1, 9, 'untouched'), (10, 3, 'copied'),
                 (13, 50, 'untouched'), (63, 1, 'copied')]"
    map_is new "[(0, 63, 'untouched'), (63, 1, 'copied')]"
}
maps_are_right
map_is middle "[(0, 11, 'untouched'), (11, 2, 'copied'),
                (13, 50, 'untouched'), (63, 1, 'copied')]"

cbwctl map "$shm" new --plain >"$tmp/plain"
cat >"$tmp/expected" <<END
         0     4128768    0  untouched
   4128768       64536    1  copied
END
same "$tmp/expected" "$tmp/plain"

# A dropped one in the middle is still looked through.
cbwctl drop "$shm" middle >/dev/null
maps_are_right
cbwctl_fails 1 'there is no snapshot "middle"' map "$shm" middle

# The picture fits the width.
COLUMNS=43 cbwctl map "$shm" old >"$tmp/picture"
cat >"$tmp/expected" <<END
old: 4.0 MiB in 64 clusters

   0 bytes #.........###...................
     2 MiB ...............................#

Each character is 1 cluster, 64 KiB:
  # copied, read from a target: 5 clusters, 320 KiB (7.8 %)
  . untouched, read from the disk: 59 clusters, 3.7 MiB (92.2 %)
END
diff -u "$tmp/expected" "$tmp/picture" || fail "the picture"

# Also without the server.
stop_server disk
maps_are_right
