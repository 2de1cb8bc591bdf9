#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A target is removed, replaced, truncated or extended under the server:
# whatever the policy, the snapshot is broken within two seconds, with that
# reason, the guest's writes succeed, and the view never shows anything
# else than the old data.

. ./functions.sh
set -e

target=$tmp/target
random_file "$tmp/disk" 1M
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
is_broken ()
{
    cbwctl status "$shm" --json >"$tmp/json"
    grep -q '"state": "broken"' "$tmp/json"
}

for policy in break-snapshot break-guest-write; do
    for what in remove replace truncate truncate-part extend; do
        cp "$tmp/disk" "$tmp/original"
        cbwctl create "$shm" snap --target="$target" --on-error=$policy \
               >/dev/null
        guest <<PY
h.pwrite (b"1" * 200000, 300000)
PY
        view_is "$tmp/original"
        case $what in
            remove) rm "$target" ;;
            replace) cp "$target" "$tmp/other"; mv "$tmp/other" "$target" ;;
            truncate) : >"$target" ;;
            truncate-part) truncate -s 400000 "$target" ;;
            extend) truncate -s +1 "$target" ;;
        esac
        # At once: also to the end, which makes a short file long again.
        nbdsh -c - <<PY
import errno, os, time
guest, view = nbd.NBD (), nbd.NBD ()
guest.connect_uri ("$disk")
view.connect_uri ("$snap")
old = open ("$tmp/original", "rb").read ()
if "$what" == "truncate":
    # Before the next look at it.  A failed copy is a failed copy: with
    # break-guest-write that write may fail, but not for long.
    try:
        guest.pwrite (b"2" * 100, (1 << 20) - 100)
    except nbd.Error as e:
        assert "$policy" == "break-guest-write", e
end = time.monotonic () + 2
good = 0
while time.monotonic () < end:
    try:
        assert view.pread (200000, 300000) == old[300000:500000]
        good += 1
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
        if "$what" in ("remove", "replace"):
            break
print ("$policy", "$what", good)
guest.pwrite (os.urandom (1 << 20), 0)
PY
        wait_for 1 is_broken || fail "not broken: $policy, $what"
        if [ $what != truncate ]; then
            json "j['snapshots'][0]['error']['reason'] == 'target'" <"$tmp/json"
            nbdinfo --list "$snap" >"$tmp/list"
            expect_in "$tmp/list" "broken: its target is gone or was changed"
        fi
        cbwctl drop "$shm" snap >/dev/null
        rm -f "$target"
    done
done

# An older snapshot that looks through it is lost too; one that does not,
# and a newer one, are not.
cp "$tmp/disk" "$tmp/original"
cbwctl create "$shm" s1 >/dev/null
guest <<PY
h.pwrite (b"1" * 100, 0)
PY
cp "$tmp/disk" "$tmp/second"
cbwctl create "$shm" s2 >/dev/null
cbwctl create "$shm" s3 >/dev/null
guest <<PY
h.pwrite (b"2" * 100, 100000)
PY
rm "$tmp/s2.cow"
second_is_broken ()
{
    cbwctl status "$shm" --json |
        "$PYTHON" -c 'import json, sys
sys.exit (json.load (sys.stdin)["snapshots"][1]["state"] != "broken")'
}
wait_for 5 second_is_broken || fail "s2"
cbwctl status "$shm" --json |
    json "[s['state'] for s in j['snapshots']] == ['live', 'broken', 'live']"
view_is "$tmp/original" "nbd+unix:///s1?socket=$tmp/snap.sock"
rm "$tmp/s3.cow"
first_is_broken ()
{
    cbwctl status "$shm" --json |
        "$PYTHON" -c 'import json, sys
sys.exit (json.load (sys.stdin)["snapshots"][0]["state"] != "broken")'
}
wait_for 5 first_is_broken || fail "s1"
guest <<PY
h.pwrite (b"3" * 1048576, 0)
PY
