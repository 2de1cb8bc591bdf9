#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A backup pushed from the view (qemu-img convert to raw, to qcow2, to
# compressed qcow2; nbdcopy) has the old data although writes land while
# it runs, and qemu-img compare agrees.

. ./functions.sh
set -e
requires qemu-img

# Random data, compressible data and holes.
random_file "$tmp/original" 8M
yes "compressible" | head -c 4M >>"$tmp/original"
truncate -s 16M "$tmp/original"
random_file "$tmp/tail" 2M
cat "$tmp/tail" >>"$tmp/original"

# Overwrites everything in random order, over and over until told to stop,
# and leaves a byte in $tmp/progress for each chunk.
writer ()
{
    guest <<PY
import os, random, time
random.seed (1)
chunk = 96 * 1024
size = h.get_size ()
progress = open ("$tmp/progress", "ab", buffering=0)
rounds = 0
while not os.path.exists ("$tmp/stop"):
    offsets = list (range (0, size, chunk))
    random.shuffle (offsets)
    for offset in offsets:
        n = min (chunk, size - offset)
        if random.randrange (3) == 0:
            h.zero (n, offset)
        else:
            h.pwrite (bytes ([random.randrange (1, 256)]) * n, offset)
        progress.write (b".")
        time.sleep (0.002)
    rounds += 1
PY
}

progress () { stat -c %s "$tmp/progress"; }
started () { [ "$(progress)" -gt 0 ]; }

# push COMMAND...: while the writer is at work
push ()
{
    rm -f "$shm" "$tmp/target" "$tmp/stop"
    cp "$tmp/original" "$tmp/disk"
    : >"$tmp/progress"
    # 16 MB a second: about as fast as the writer.
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
    start_snap --filter=rate "$shm" rate=128M burstiness=0.05
    writer >"$tmp/writer.log" 2>&1 &
    local pid=$! before after
    wait_for 30 started || fail "the writer did not start"

    before=$(progress)
    "$@"
    after=$(progress)
    [ "$before" -lt 100 ] || fail "the writer was through before: $before"
    [ "$after" -gt $((before + 20)) ] || fail "too few writes meanwhile"

    touch "$tmp/stop"
    wait $pid || { cat "$tmp/writer.log" >&2; fail "the writer failed"; }
    ! cmp -s "$tmp/original" "$tmp/disk" || fail "nothing was overwritten"
    stop_server snap
    stop_server disk
}

push qemu-img convert -f raw -O raw "$snap" "$tmp/raw"
same "$tmp/original" "$tmp/raw"

push qemu-img convert -f raw -O qcow2 "$snap" "$tmp/qcow2"
qemu-img compare -q -f raw -F qcow2 "$tmp/original" "$tmp/qcow2"
qemu-img check -q -f qcow2 "$tmp/qcow2"

push qemu-img convert -f raw -O qcow2 -c "$snap" "$tmp/compressed"
qemu-img compare -q -f raw -F qcow2 "$tmp/original" "$tmp/compressed"
qemu-img check -q -f qcow2 "$tmp/compressed"

push nbdcopy "$snap" "$tmp/copy"
same "$tmp/original" "$tmp/copy"

push qemu-img compare -q -f raw -F raw "$tmp/original" "$snap"
