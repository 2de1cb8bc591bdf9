#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup --since finds out that an export holds the image of an older
# point, or another small image.

. ./functions.sh
set -e
requires qemu-img
requires qemu-nbd

# serve SIZE
serve ()
{
    random_file "$tmp/disk" "$1"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
               cbw-commands=on
    qemu-img create -q -f qcow2 "$tmp/image.qcow2" "$1"
    cbwctl backup "$shm" a --to="$image" >/dev/null
}
image="[ qemu-nbd -f qcow2 $tmp/image.qcow2 ]"

# not_taken SINCE NAME: it is said not to be the image of NAME, and not changed.
not_taken ()
{
    cp "$tmp/image.qcow2" "$tmp/was.qcow2"
    cbwctl_fails 1 "does not hold the image of \"$2\"" \
                 backup "$shm" x --since="$1" --to="$image"
    qemu-img compare -q "$tmp/image.qcow2" "$tmp/was.qcow2"
}

is_whole () { qemu-img compare -q -f raw -F qcow2 "$tmp/disk" "$tmp/image.qcow2"; }

# ---- A cluster has changed, and points were made since: two of them between
# which nothing changed.
serve $((8 << 20))
guest <<<"h.pwrite (b'x' * 5000, 77 * 65536)"
for point in b c d; do
    cbwctl checkpoint "$shm" $point
done
not_taken d d
not_taken c c
# What changes again does not tell one from the other, and is copied.
guest <<<"h.pwrite (b'y' * 5000, 77 * 65536)"
cbwctl backup "$shm" e --since=d --to="$image" --json >"$tmp/json"
json 'j["since"] == "d" and j["copied-bytes"] == 65536' <"$tmp/json"
is_whole
stop_server disk
rm "$shm" "$tmp/image.qcow2"

# ---- A small disk, and an image that differs in one cluster
serve $((2 << 20))
qemu-io -f qcow2 -c "write -q -P 7 $((21 * 65536)) 1000" "$tmp/image.qcow2"
not_taken a a
guest <<<"h.pwrite (b'z' * 5000, 21 * 65536)"
cbwctl backup "$shm" f --since=a --to="$image" >/dev/null
is_whole

# ---- A replica, and points since that nobody has an image of ----
for p in $(cbwctl status "$shm" --json | "$PYTHON" -c '
import json, sys
print (*[p["name"] for p in json.load (sys.stdin)["points"]])'); do
    cbwctl drop "$shm" "$p"
done
size=$(stat -c %s "$tmp/disk")
truncate -s "$size" "$tmp/replica.raw"
start_server replica qemu-nbd -t -f raw -k "$tmp/replica.sock" "$tmp/replica.raw"
replicate ()
{
    cbwctl backup "$shm" replica --json --to="nbd+unix:///?socket=$tmp/replica.sock" "$@" \
           >"$tmp/json"
}
put () { guest <<<"h.pwrite (b'$1' * 65536, $2 * 65536)"; }
replicate --since=auto
json 'j["mode"] == "full"' <"$tmp/json"
put a 5
put b 7
cbwctl checkpoint "$shm" c1
cbwctl checkpoint "$shm" c2
put c 9
replicate --since=auto
json 'j["mode"] == "full" and j["copied-bytes"] <= 3 * 65536' <"$tmp/json"
stop_server replica
cmp "$tmp/disk" "$tmp/replica.raw"
# Something else, and the user is sure that it may go.
qemu-io -f raw -c "write -q -P 9 0 $size" "$tmp/replica.raw"
start_server replica qemu-nbd -t -f raw -k "$tmp/replica.sock" "$tmp/replica.raw"
if replicate --since=auto 2>"$tmp/err"; then
    fail "it is taken for an image of the disk"
fi
expect_in "$tmp/err" "does not hold the image of"
replicate --since=auto --force
json 'j["mode"] == "full" and "what differs is written" in j["reason"]' <"$tmp/json"
stop_server replica
cmp "$tmp/disk" "$tmp/replica.raw"

# ---- No point is valid, or it is another disk: what differs is found ----
start_server replica qemu-nbd -t -f raw -k "$tmp/replica.sock" "$tmp/replica.raw"
stop_server disk
printf XYZ | dd of="$tmp/disk" bs=1 seek=1200000 conv=notrunc status=none
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-commands=on
cbwctl_fails 1 "with --force what differs is overwritten" \
             backup "$shm" again --since=auto \
             --to="nbd+unix:///?socket=$tmp/replica.sock"
cbwctl backup "$shm" other --to="$tmp/other" >/dev/null
cbwctl backup "$shm" again --since=auto --force --json \
       --to="nbd+unix:///?socket=$tmp/replica.sock" >"$tmp/json"
json 'j["copied-bytes"] == 65536' <"$tmp/json"
stop_server replica
cmp "$tmp/disk" "$tmp/replica.raw"
