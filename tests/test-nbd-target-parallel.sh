#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# At least 16 copies are in flight at once on one connection: the target's
# server answers none of them before it has seen 16.
set -e
. ./functions.sh

cat >"$tmp/target.py" <<'PY'
import nbdkit, threading

API_VERSION = 2
cond = threading.Condition ()
inside = most = 0

def thread_model ():
    return nbdkit.THREAD_MODEL_PARALLEL
def open (readonly):
    return 1
def get_size (h):
    return 64 << 20
def can_multi_conn (h):
    return False
def pread (h, buf, offset, flags):
    buf[:] = bytearray (len (buf))
def pwrite (h, buf, offset, flags):
    global inside, most
    with cond:
        inside += 1
        most = max (most, inside)
        cond.notify_all ()
        seen = cond.wait_for (lambda: most >= 16, 30)
        inside -= 1
    if not seen:
        raise OSError (5, "only %d writes were in flight" % most)
PY
requires_plugin python
start_server target "$NBDKIT" -f -U "$tmp/target.sock" python "$tmp/target.py"
random_file "$tmp/image" 4M
start_disk file "$tmp/image" cbw-shm="$shm" cbw-on-error=break-guest-write \
           cbw-target="nbd+unix:///?socket=$tmp/target.sock"
guest <<'PY'
buf = nbd.Buffer.from_bytearray (bytearray (b"g" * 512))
cookies = [h.aio_pwrite (buf, i << 16) for i in range (16)]
for c in cookies:
    while not h.aio_command_completed (c):
        h.poll (-1)
PY
