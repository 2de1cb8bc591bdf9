#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Somebody who can write to the segment changes what the entries of live
# snapshots say, while the server runs.  It acts on its own copy: the file that
# the forged entries name is not touched, and the snapshots are what they were.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
random_file "$tmp/victim" 1M
chmod 600 "$tmp/victim"
cp "$tmp/victim" "$tmp/kept"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
start_snap "$shm"
for s in old new; do
    cp "$tmp/disk" "$tmp/is-$s"
    cbwctl create "$shm" $s --target="$tmp/$s.cow" >/dev/null
    guest <<<"h.pwrite (b'${s:0:1}' * 50000, 0)"
done

# The path and the identity in each, with the right checksum.
"$PYTHON" - "$shm" "$tmp/victim" <<'PY'
import os, struct, sys
path, victim = sys.argv[1:]
st = os.stat (victim)
f = open (path, "r+b")
data = f.read ()
table, = struct.unpack_from ("<Q", data, 96)    # see common/segment/layout.h
for at in table, table + 2048:
    entry = bytearray (data[at:at + 1192])
    assert entry[128:].startswith (b"/")
    entry[112:128] = struct.pack ("<QQ", st.st_dev, st.st_ino)
    entry[128:1152] = victim.encode ().ljust (1024, b"\0")
    s = 0xcbf29ce484222325
    for b in entry:
        s = (s ^ b) * 0x100000001b3 & (1 << 64) - 1
    f.seek (at); f.write (entry + struct.pack ("<Q", s))
PY
cbwctl status "$shm" --json |
    json "all (s['target']['filename'] == '$tmp/victim' for s in j['snapshots'])"

guest <<<"h.pwrite (b'x' * 300000, 400000)"
for s in old new; do
    view_is "$tmp/is-$s" "nbd+unix:///$s?socket=$tmp/snap.sock"
done
cbwctl drop "$shm" new >/dev/null
view_is "$tmp/is-old" "nbd+unix:///old?socket=$tmp/snap.sock"
cbwctl drop "$shm" old >/dev/null
same "$tmp/victim" "$tmp/kept"
absent "$tmp"/*.cow* "$tmp"/victim.*
