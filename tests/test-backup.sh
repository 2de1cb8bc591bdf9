#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup writes the disk as it was at the cut while guests write, to
# a sparse image that stands alone; with older and newer snapshots too.

. ./functions.sh
set -e

mib=1048576
random_file "$tmp/disk" 12M
truncate -s $(( 40 * mib + 777 )) "$tmp/disk"    # a hole, and an odd end
dd if=/dev/urandom of="$tmp/disk" bs=1M seek=30 count=4 conv=notrunc status=none
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=4k

# Writes until it is told to stop, on two connections.
cat >"$tmp/writer.py" <<END
import os, random, threading
def run ():
    g = nbd.NBD ()
    g.connect_uri ("$disk")
    while not os.path.exists ("$tmp/stop"):
        at = random.randrange (0, 40 * $mib - 20000)
        if random.random () < 0.1:
            g.zero (20000, at)
        else:
            g.pwrite (os.urandom (random.randrange (1, 20000)), at)
    g.shutdown ()
threads = [threading.Thread (target=run) for i in range (2)]
for t in threads: t.start ()
for t in threads: t.join ()
END
start_writer ()
{
    rm -f "$tmp/stop"
    nbdsh -c - <"$tmp/writer.py" &
    writer=$!
}
stop_writer ()
{
    touch "$tmp/stop"
    wait $writer || fail "the writer failed"
}

# The cut is known if the disk is at rest then: the guest begins when the
# backup has, and that waits for it at first.
cp --sparse=always "$tmp/disk" "$tmp/old"
cbwctl backup "$shm" monday --to="$tmp/image" --speed=3M --detach
start_writer
cbwctl backup "$shm" monday --speed=0
cbwctl backup "$shm" monday >"$tmp/out"
stop_writer
same "$tmp/image" "$tmp/old"
expect_in "$tmp/out" "Backup complete in"
expect_in "$tmp/out" "$tmp/image"
used=$(( $(stat -c %b "$tmp/image") * 512 ))
[ $used -le $(( 16 * mib + 65536 )) ] || fail "the image is not sparse: $used"
cbwctl status "$shm" --json | json 'j["snapshots"] == []'
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check" >&2; fail "check"; }

# In the middle of a chain, which changes meanwhile.
cp --sparse=always "$tmp/disk" "$tmp/old0"
cbwctl create "$shm" older --target="$tmp/older" >/dev/null
start_writer
nap
stop_writer
cp --sparse=always "$tmp/disk" "$tmp/old1"
cbwctl backup "$shm" --to="$tmp/image1" --speed=2M --detach
start_writer
nap
stop_writer
cp --sparse=always "$tmp/disk" "$tmp/old2"
cbwctl create "$shm" newer --target="$tmp/newer" >/dev/null
cbwctl create "$shm" newest --target="$tmp/newest" >/dev/null
start_snap "$shm"
start_writer
cbwctl drop "$shm" newest >/dev/null
view_is "$tmp/old1" "nbd+unix:///backup?socket=$tmp/snap.sock"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check" >&2; fail "check"; }
cbwctl backup "$shm" --speed=0
cbwctl backup "$shm" --json >"$tmp/json"
json 'j["status"] == "completed"' <"$tmp/json"
same "$tmp/image1" "$tmp/old1"
cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check" >&2; fail "check"; }
stop_writer
for i in 0 2; do
    name=$([ $i = 0 ] && echo older || echo newer)
    view_is "$tmp/old$i" "nbd+unix:///$name?socket=$tmp/snap.sock"
done
same "$tmp/image1" "$tmp/old1"
[ "$(cbwctl status "$shm" --json | json 'len (j["snapshots"]) == 3' &&
     echo ok)" = ok ]

# When the older one goes, the image is still there, and nobody has it.
cbwctl drop "$shm" older newer >/dev/null
absent "$tmp/older" "$tmp/newer"
same "$tmp/image1" "$tmp/old1"
stop_server snap
! grep -q "$tmp/image1" "/proc/$(server_pid disk)/maps"
! ls -l "/proc/$(server_pid disk)/fd" | grep -q image1

# The same name again, to a file that exists.
cp --sparse=always "$tmp/disk" "$tmp/old3"
cbwctl_fails 1 'exists' backup "$shm" --to="$tmp/image1"
(cd "$tmp" && cbwctl backup "$shm" --to=image1 --force >/dev/null)
same "$tmp/image1" "$tmp/old3"
stop_server disk
same "$tmp/image1" "$tmp/old3"
