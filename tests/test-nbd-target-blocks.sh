#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A target's server that comes back with a larger minimum block size, after
# the filter's has ended too: no write to it is widened over old data.

. ./functions.sh
set -e

uri="nbd+unix:///?socket=$tmp/target.sock"
random_file "$tmp/disk" 2M
cp "$tmp/disk" "$tmp/old"
truncate -s 2M "$tmp/target"
start_nbdkit target file "$tmp/target"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$uri" \
           cbw-cluster-size=4k cbw-on-error=break-guest-write
guest <<'PY'
h.pwrite (b"1" * 4096, 4096)
# So many that the first is no witness any more.
for i in range (1, 12):
    h.pwrite (b"1" * 4096, 65536 * i)
PY
stop_server disk
stop_server target
start_nbdkit target --filter=blocksize-policy file "$tmp/target" \
             blocksize-minimum=64k blocksize-preferred=64k blocksize-maximum=1M
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
guest <<'PY'
try:
    h.pwrite (b"2" * 4096, 0)
    assert False, "a cluster smaller than a block was written"
except nbd.Error:
    pass
PY
# The server that can do it is back.
stop_server target
start_nbdkit target file "$tmp/target"
guest <<'PY'
import time
for i in range (100):
    try:
        h.pwrite (b"2" * 4096, 0)
        break
    except nbd.Error:
        time.sleep (0.1)        # it connects ten times a second at most
else:
    assert False, "the target is not used again"
PY
view_is "$tmp/old"
