#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# qemu-nbd that is killed is started again, and no client notices; one that
# does not start is an error; and none is left when nbdkit is killed.

. ./functions.sh
set -e
. "$top_srcdir/tests/qcow2.sh"

random_file "$tmp/raw" 8M
qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/disk.qcow2"
qemu-img snapshot -c snap "$tmp/disk.qcow2"

start_snap qcow2="$tmp/disk.qcow2"
nbdsh -c - <<PY
import nbd, os, signal, subprocess
data = open ("$tmp/raw", "rb").read ()
h = nbd.NBD ()
h.connect_uri ("$snap")
def children ():
    return [int (p) for p in subprocess.run (
        ["pgrep", "-P", "$(server_pid snap)", "qemu-nbd"],
        capture_output=True).stdout.split ()]
assert h.pread (512, 0) == data[:512]
for i in range (10):
    cookies = []
    for k in range (16):        # some are in flight, others come after
        if k == i + 2:
            for pid in children ():
                os.kill (pid, signal.SIGKILL)
        buf = nbd.Buffer (500000)
        cookies.append ((k, buf, h.aio_pread (buf, k * 500000)))
    for k, buf, c in cookies:
        while not h.aio_command_completed (c):
            h.poll (-1)
        assert buf.to_bytearray () == data[k * 500000:(k + 1) * 500000]
assert len (children ()) == 1
PY
nothing_left

# nbdkit is killed while a client is connected, and so is used.
nbdsh -u "$snap" -c 'h.pread (512, 0)' -c 'print ("ready", flush=True)' \
      -c 'input ()' >"$tmp/ready" < <(sleep 60) &
client=$!
wait_for 10 grep -q ready "$tmp/ready" || fail "the client does not read"
pids=$(pgrep -P "$(server_pid snap)" qemu-nbd)
[ -n "$pids" ] || fail "no qemu-nbd is running"
kill_server snap KILL
ended () { ! kill -0 $pids 2>/dev/null; }
wait_for 10 ended || fail "qemu-nbd outlived nbdkit"
kill $client

# One that ends at once, whatever its reason.
mkdir "$tmp/bin"
printf '#!/bin/sh\nexit 1\n' >"$tmp/bin/qemu-nbd"
chmod +x "$tmp/bin/qemu-nbd"
PATH=$tmp/bin:$PATH start_snap qcow2="$tmp/disk.qcow2"
[ "$(nbdinfo --size "$snap")" = 8388608 ] || fail "the size"
if nbdcopy "$snap" "$tmp/copy" 2>/dev/null; then
    fail "copied without a qemu-nbd"
fi
expect_in "$tmp/snap.log" "qemu-nbd: "
stop_server snap

# None at all.
for p in $(IFS=:; echo $PATH); do
    ln -s "$p"/* "$tmp/bin" 2>/dev/null || :
done
rm "$tmp/bin/qemu-nbd"
( PATH=$tmp/bin refused "$plugin" qcow2="$tmp/disk.qcow2" )
expect_in "$tmp/refused.log" "needs the program qemu-nbd, which was not found (Debian: apt install qemu-utils)"
