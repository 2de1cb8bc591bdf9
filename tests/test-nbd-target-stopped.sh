#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The target's server hangs.  With a time limit the guest does not; readers
# of other clusters do not either; and the filter's server ends.
set -e
. ./functions.sh

uri="nbd+unix:///?socket=$tmp/target.sock"
random_file "$tmp/image" 4M
cp "$tmp/image" "$tmp/old"
start_nbdkit target memory 4M
# TSan does not like threads that are left to themselves.
wait=$([ "$SANITIZERS" = thread ] && echo 60 || echo 0)
start_nbdkit disk --filter="$filter" -D cbw.stuck_wait=$wait \
             file "$tmp/image" cbw-shm="$shm" cbw-target="$uri" \
             cbw-timeout=0.2 cbw-on-error=break-guest-write
start_snap "$shm"
kill_server target STOP
guest <<'PY'
for i in range (2):
    try:
        h.pwrite (b"x" * 4096, 100000 * i)
        raise SystemExit ("the guest's write succeeded")
    except nbd.Error as e:
        assert e.errno == "EIO", e
PY
view_is "$tmp/old"
kill_server target CONT
guest <<'PY'
h.pwrite (b"x" * 4096, 0)
PY
view_is "$tmp/old"
stop_server snap

[ "$SANITIZERS" != thread ] || exit 0
kill_server target STOP
guest <<'PY'
try:
    h.pwrite (b"x" * 4096, 1000000)
except nbd.Error:
    pass
PY
stop_server disk
kill_server target CONT
