#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Points after an end that was not orderly: of this server, of the disk's own,
# of the host; and a disk that was changed while nobody served it.

. ./functions.sh
set -e
requires qemu-nbd
requires qemu-img

size=$((64 * 1024 * 1024))              # 64 regions of 1 MiB
truncate -s $size "$tmp/disk"
shm=$tmp/segment                        # in a regular file
# As if the host had been started anew.
reboot () { segment set "$shm" boot_id hex:00000000000000000000000000000077; }

# serve ARGS...
serve () { start_disk "$@" cbw-shm="$shm" cbw-cluster-size=64k; }

write () { guest <<<"h.pwrite (b'x' * 1000, $1)"; }
flush () { guest <<<"h.flush ()"; }

# point_is NAME EXPRESSION: of its JSON, p.
point_is ()
{
    cbwctl status "$shm" --json >"$tmp/json"
    json "any (p['name'] == '$1' and ($2) for p in j['points'])" <"$tmp/json" ||
        { cat "$tmp/json"; fail "$1: $2"; }
}
changed () { point_is "$1" "p['changed-bytes'] == $2"; }
invalid () { point_is "$1" "p['state'] == 'invalid' and '$2' in p['reason']"; }
valid () { point_is "$1" "p['state'] == 'valid'"; }

# ---- A local file: what a process leaves, the kernel has ----
serve file "$tmp/disk"
cbwctl checkpoint "$shm" a
write 100000
kill_server disk KILL
serve file "$tmp/disk"
changed a 65536
write 200000
stop_server disk
serve file "$tmp/disk"
changed a 131072
valid a

# Somebody else writes to it, and not even with other bytes.
stop_server disk
printf x | dd of="$tmp/disk" conv=notrunc bs=1 status=none
serve file "$tmp/disk"
invalid a "changed while it was not served"
cbwctl checkpoint "$shm" b
cbwctl drop "$shm" a
stop_server disk
# Another file in its place.
cp "$tmp/disk" "$tmp/new"
mv "$tmp/new" "$tmp/disk"
serve file "$tmp/disk"
invalid b "changed while it was not served"
# Also where clients may not read it.
stop_server disk
serve file "$tmp/disk" cbw-direct=off
cbwctl checkpoint "$shm" c
stop_server disk
printf y | dd of="$tmp/disk" conv=notrunc bs=1 status=none
serve file "$tmp/disk" cbw-direct=off
invalid c "changed while it was not served"

# A disk that is gone with its server is another one.
stop_server disk
rm "$shm"
serve memory $size
cbwctl checkpoint "$shm" m
stop_server disk
serve memory $size
invalid m "changed while it was not served"
stop_server disk
rm "$shm"
serve file "$tmp/disk"

# ---- The host goes down ----
cbwctl checkpoint "$shm" d
kill_server disk KILL
reboot
serve file "$tmp/disk"
invalid d "the host went down"
# After an orderly end it may.
cbwctl checkpoint "$shm" e
write 100000
stop_server disk
reboot
serve file "$tmp/disk"
changed e 65536
valid e
stop_server disk
rm "$shm"

# Without marks, or without a disk, there is nothing to keep.
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" cbw-track=off \
        cbw-durable=on
expect_in "$tmp/refused.log" "cbw-durable=on does not go with cbw-track=off"
if [ -d /dev/shm ] && [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
    refused --filter="$filter" file "$tmp/disk" cbw-shm=cbw-unclean-$$ cbw-durable=on
    expect_in "$tmp/refused.log" "is in memory, which the host forgets"
fi

# ---- ... and what is marked is durable ----
serve file "$tmp/disk" cbw-durable=on
cbwctl checkpoint "$shm" a
write $((10 << 20))
cbwctl checkpoint "$shm" b
changed a 65536
changed b 0
# What came before "b" may be lost: its region counts as changed since.
kill_server disk KILL
reboot
serve file "$tmp/disk" cbw-durable=on -D cbw.cool_ms=20
changed a 1048576
changed b 1048576
# When the region is cold nothing is lost.
write $((20 << 20))
is_cold () { [ -z "$(segment hot "$shm")" ]; }
wait_for 20 is_cold || fail "it does not get cold"
kill_server disk KILL
reboot
serve file "$tmp/disk" cbw-durable=on
changed b $((1048576 + 65536))
# A snapshot's data is lost, but it stays a point.
cbwctl create "$shm" s --target="$tmp/s" >/dev/null
write $((30 << 20))
kill_server disk KILL
reboot
serve file "$tmp/disk" cbw-durable=on
states s=broken
changed s 1048576
# Not durable any more: the next time all is lost.
stop_server disk
serve file "$tmp/disk"
valid s
kill_server disk KILL
reboot
serve file "$tmp/disk" cbw-durable=on
invalid s "the host went down"
stop_server disk
rm "$shm"

# ---- A filter between has what the disk does not have yet ----
serve --filter=cache file "$tmp/disk" cache=writeback
cbwctl checkpoint "$shm" a
write $((10 << 20))
cbwctl checkpoint "$shm" b
changed b 0
kill_server disk KILL
serve --filter=cache file "$tmp/disk" cache=writeback
changed b $size
cbwctl checkpoint "$shm" c
write $((20 << 20))
# It must not be flushed either, by a server that ends for example.
stop_server disk
serve --filter=cache file "$tmp/disk" cache=writeback
changed c $size
stop_server disk
rm "$shm"
# One that keeps nothing can be flushed.
serve --filter=nozero file "$tmp/disk" -D cbw.cool_ms=20
cbwctl checkpoint "$shm" a
write $((10 << 20))
cbwctl checkpoint "$shm" b
wait_for 20 is_cold || fail "it does not get cold"
write $((20 << 20))
kill_server disk KILL
serve --filter=nozero file "$tmp/disk"
changed b 1048576
stop_server disk
rm "$shm"

# ---- A disk on a server of its own ----
qemu-img create -q -f qcow2 "$tmp/disk.qcow2" $size
start_server qcow2 qemu-nbd -t -e 10 -f qcow2 -k "$tmp/qcow2.sock" \
             "$tmp/disk.qcow2"
serve nbd socket="$tmp/qcow2.sock"
cbwctl checkpoint "$shm" a
write $((10 << 20))
cbwctl checkpoint "$shm" b
# This server dies, and that one may have.
kill_server disk KILL
serve nbd socket="$tmp/qcow2.sock" -D cbw.cool_ms=20
changed b 1048576
write $((20 << 20))
wait_for 20 is_cold || fail "it does not get cold"
write $((40 << 20))
# That one dies alone: the next flush fails.
said () { grep -c "count as changed" "$tmp/disk.log"; }
before=$(said)
kill_server qcow2 KILL
is_marked ()
{
    cbwctl status "$shm" --json |
        json "[p['changed-bytes'] for p in j['points']] == [2162688, 2162688]"  2>/dev/null
}
wait_for 20 is_marked ||
    { cbwctl status "$shm" --json; fail "a lost server is not noticed"; }
# So do all others, which is said once.
many_failed () { [ "$(grep -c "nbd_aio_flush" "$tmp/disk.log")" -ge 5 ]; }
wait_for 20 many_failed || fail "it is not flushed again"
[ "$(said)" = $((before + 1)) ] || fail "it was said $(said) times"
