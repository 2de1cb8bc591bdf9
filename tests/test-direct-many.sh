#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Many clients of a plugin that may have few files open: what it opens to read
# snapshots directly keeps no client from connecting.

. ./functions.sh
set -e

random_file "$tmp/disk" 256K
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-snapshot=oldest
cp "$tmp/disk" "$tmp/old"
for i in 1 2 3 4 5 6 7 8 9; do
    cbwctl create "$shm" "s$i" --target="$tmp/target$i" >/dev/null
done
guest <<<"h.pwrite (b'1' * 100000, 100000)"

cat >"$tmp/few" <<'SH'
#!/bin/sh
ulimit -n 64
exec "$@"
SH
chmod +x "$tmp/few"
eval "start_server few '$tmp/few' $(nbdkit_command) -f -v -U '$tmp/few.sock' '$plugin' '$shm' direct=auto"
nbdsh -c - <<PY
old = open ("$tmp/old", "rb").read ()
import signal
signal.alarm (30)              # nbdkit does not answer, if it has no more
clients = []
for i in range (9):
    clients.append (nbd.NBD ())
    clients[i].connect_uri ("nbd+unix:///oldest?socket=$tmp/few.sock")
    assert clients[i].pread (len (old), 0) == old
PY
expect_in "$tmp/few.log" "is read directly"
expect_in "$tmp/few.log" "half as many files open as it may"
