#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbw-full=stall:SECS: a guest's write waits while the target is full, and
# status says so; it goes on when a file is removed, or another snapshot
# dropped; it gives up after SECS, by the policy, or when the server ends.
# Meanwhile all else works.

. ./functions.sh
set -e
small_tmpfs 2M

random_file "$tmp/disk" 8M
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
cp "$tmp/disk" "$tmp/is-one"
cbwctl create "$shm" one --target="$tmp/small/one" --full=stall:60 \
       --on-error=break-guest-write >/dev/null
guest <<PY
h.pwrite (b"1" * 1024 * 1024, 0)
PY
cp "$tmp/disk" "$tmp/is-two"
cbwctl create "$shm" two --target="$tmp/small/two" --full=stall:60 >/dev/null
view_of () { echo "nbd+unix:///$1?socket=$tmp/snap.sock"; }

dd if=/dev/zero of="$tmp/small/fill" bs=4k status=none 2>/dev/null || :
stalled ()
{
    cbwctl status "$shm" --json >"$tmp/json"
    grep -q '"stalled": true' "$tmp/json"
}
not_stalled () { ! stalled; }
# write OFFSET: in the background, and wait until it waits.
write ()
{
    nbdsh -u "$disk" -c "h.pwrite (b'2' * 65536 * 4, $1)" 2>"$tmp/write.log" &
    writer=$!
    wait_for 20 stalled || fail "it does not wait"
}

write 4194304
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "STALLED"
expect_in "$tmp/text" "break-snapshot; if full, wait 60 s"
json "j['snapshots'][1]['stalled-left-ns'] > 50e9 and
      not j['snapshots'][0]['stalled'] and
      j['snapshots'][1]['full-stall'] == 60" <"$tmp/json"
COLUMNS=100 cbwctl status "$shm" --watch --count=1 >"$tmp/watch"
expect_in "$tmp/watch" "STALLED, "
# Other clients, other places, and other snapshots.
guest <<PY
assert h.pread (512, 0) == b"1" * 512
h.pread (65536, 4194304)
PY
view_is "$tmp/is-one" "$(view_of one)"
cbwctl create "$shm" other --target="$tmp/other" >/dev/null
# That is the newest now: the write goes on at once.
wait $writer || fail "the write failed"
wait_for 5 not_stalled || fail "it still waits"
view_is "$tmp/is-one" "$(view_of one)"
view_is "$tmp/is-two" "$(view_of two)"
cbwctl drop "$shm" other >/dev/null

# A file is removed.
cbwctl create "$shm" three --target="$tmp/small/three" --full=stall:60 \
       >/dev/null 2>"$tmp/err" && fail "no room for a target" || :
truncate -s -64k "$tmp/small/fill"
cp "$tmp/disk" "$tmp/is-three"
cbwctl create "$shm" three --target="$tmp/small/three" --full=stall:60 \
       >/dev/null
write 6291456
rm "$tmp/small/fill"
wait $writer || fail "the write failed"
view_is "$tmp/is-three" "$(view_of three)"

# Another snapshot is dropped.
dd if=/dev/zero of="$tmp/small/fill" bs=4k status=none 2>/dev/null || :
write 2097152
cbwctl drop "$shm" one >/dev/null
wait $writer || fail "the write failed"
for s in two three; do view_is "$tmp/is-$s" "$(view_of $s)"; done
cbwctl drop "$shm" two three >/dev/null

# It gives up: each policy.
for policy in break-snapshot break-guest-write; do
    rm -f "$tmp/small/fill"
    cbwctl create "$shm" s --target="$tmp/small/s" --full=stall:0.7 \
           --on-error=$policy >/dev/null
    dd if=/dev/zero of="$tmp/small/fill" bs=4k status=none 2>/dev/null || :
    guest <<PY
import errno, time
start = time.monotonic ()
try:
    h.pwrite (b"${policy: -1}" * 1024 * 1024, 0) # not what is there
    assert "$policy" == "break-snapshot"
except nbd.Error as e:
    assert "$policy" == "break-guest-write" and e.errnum == errno.ENOSPC
took = time.monotonic () - start
assert 0.65 < took < 2, took
PY
    cbwctl status "$shm" --json |
        json "j['snapshots'][0]['error']['errno'] == 28 and
              not j['snapshots'][0]['stalled'] and
              j['snapshots'][0]['state'] ==
                ('live' if '$policy' == 'break-guest-write' else 'broken')"
    cbwctl drop "$shm" s >/dev/null
done

# The server is told to end, or the guest goes away.
rm -f "$tmp/small/fill"
cbwctl create "$shm" s --target="$tmp/small/s" --full=stall:600 >/dev/null
dd if=/dev/zero of="$tmp/small/fill" bs=4k status=none 2>/dev/null || :
write 0
start=$SECONDS
stop_server disk
[ $((SECONDS - start)) -lt 10 ] || fail "it did not end"
wait $writer && fail "the write succeeded" || :
start_disk file "$tmp/disk" cbw-shm="$shm"
cbwctl status "$shm" --json |
    json "j['snapshots'][0]['state'] == 'live' and
          not j['snapshots'][0]['stalled']"
cbwctl check "$shm" >/dev/null
