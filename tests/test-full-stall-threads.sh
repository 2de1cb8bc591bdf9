#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-full=stall, and 32 writes of one connection wait for space.  With more
# threads for a connection (nbdkit -t) than that a read and a write that needs
# no copy go through; with as many or fewer they cannot.
set -e
. ./functions.sh

random_file "$tmp/disk" 8M
# run THREADS yes|no: does the read end before the writes do?
run ()
{
    start_disk -t "$1" file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
    cbwctl create "$shm" s --target="$tmp/target" --quota=64k \
           --full=stall:5 --on-error=break-guest-write >/dev/null
    guest <<PY
import os, time
done = {}
def note (what):
    def callback (error):
        done[what] = error.value
        return 1
    return callback
# The one cluster that the quota has room for.
h.pwrite (os.urandom (4096), 0)
for i in range (1, 33):
    h.aio_pwrite (nbd.Buffer.from_bytearray (bytearray (os.urandom (4096))),
                  i * 65536, note (i))
buffer = nbd.Buffer (4096)
h.aio_pread (buffer, 6 << 20, note ("read"))
h.aio_pwrite (buffer, 0, note ("write"))
def both ():
    return "read" in done and "write" in done
end = time.monotonic () + 3
while not both () and time.monotonic () < end:
    h.poll (50)
first = both ()
assert first == ("$2" == "yes"), done
if first:
    assert done == { "read": 0, "write": 0 }, done
while len (done) < 34:
    h.poll (100)
assert done["read"] == done["write"] == 0
assert all (done[i] != 0 for i in range (1, 33)), done
PY
    stop_server disk
    rm -f "$shm" "$tmp/target"
}
run 64 yes
run 16 no
