#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl backup --since takes no image on trust, never harms one that it does
# not take, and what is interrupted can be continued, or begun again.

. ./functions.sh
set -e
requires qemu-nbd

size=$((8 * 1024 * 1024))
random_file "$tmp/disk" $size
chmod 600 "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k cbw-commands=on
cbwctl backup "$shm" a --to="$tmp/image" >/dev/null
getfattr -n user.nbdkit-cbw.point "$tmp/image" >/dev/null 2>&1 ||
    skip "this file system has no extended attributes"

change () { guest_c "h.pwrite (b'$1' * 100000, $2)"; }
guest_c () { nbdsh -u "$disk" -c "$1"; }

# refused TEXT ARGS...: and the image is what it was.
not_taken ()
{
    local text=$1
    shift
    md5sum <"$tmp/image" >"$tmp/sum"
    if cbwctl backup "$shm" x --to="$tmp/image" "$@" >"$tmp/out" 2>&1; then
        cat "$tmp/out"
        fail "not refused: $text"
    fi
    expect_in "$tmp/out" "$text"
    md5sum <"$tmp/image" | diff - "$tmp/sum"
}

change b 100000
not_taken 'there is no snapshot or checkpoint "nobody"' --since=nobody
cbwctl backup "$shm" b --to="$tmp/b" >/dev/null
not_taken 'is not marked as the image of "b", but as another one' --since=b
not_taken "No such file" --since=a --to="$tmp/nothing"
[ ! -e "$tmp/nothing" ] || fail "it was made"
# A copy without the mark, and one that was changed.
cp "$tmp/image" "$tmp/copy"
not_taken "is not marked" --since=a --to="$tmp/copy"
cp --preserve=all "$tmp/image" "$tmp/copy"
printf x | dd of="$tmp/copy" conv=notrunc bs=1 status=none
not_taken "or was changed since" --since=a --to="$tmp/copy"
# With auto that means a full one, which overwrites nothing that is not ours.
not_taken "with --force a full backup replaces it" --since=auto --to="$tmp/copy"
cbwctl backup "$shm" c --since=auto --force --to="$tmp/copy" --json >"$tmp/json"
json 'j["mode"] == "full" and "is not marked" in j["reason"]' <"$tmp/json"
cmp "$tmp/disk" "$tmp/copy"
cbwctl backup "$shm" d --since=auto --to="$tmp/new" --json >"$tmp/json"
json 'j["mode"] == "full"' <"$tmp/json"
cmp "$tmp/disk" "$tmp/new"
# Whoever is sure need not be asked.
cp "$tmp/b" "$tmp/copy"
change e 300000
cbwctl backup "$shm" e --since=b --force --to="$tmp/copy" --json >"$tmp/json"
json 'j["mode"] == "incremental"' <"$tmp/json"
cmp "$tmp/disk" "$tmp/copy"

# The disk itself, and an image that somebody uses.
not_taken "in use" --since=b --force --to="$tmp/disk"
exec 3<>"$tmp/image"
not_taken "in use" --since=a
exec 3>&-

# An export that holds something else.
qemu-img create -q -f qcow2 "$tmp/other.qcow2" $size
qemu-io -f qcow2 -c "write -q -P 7 0 $size" "$tmp/other.qcow2"
cp "$tmp/other.qcow2" "$tmp/other.was"
for since in a auto; do
    not_taken "does not hold the image of" --since=$since \
            --to="[ qemu-nbd -f qcow2 $tmp/other.qcow2 ]"
    qemu-img compare -q "$tmp/other.qcow2" "$tmp/other.was"
done

# ---- Cancelled: the image stays, on its way, and is begun again ----
guest_c "import os; h.pwrite (os.urandom ($size), 0)"
cbwctl backup "$shm" f --since=a --to="$tmp/image" --speed=64k --detach
started () { cbwctl status "$shm" --json | json 'any (s.get ("job", {}).get ("offset", 0) > 0 for s in j["snapshots"])'; }
wait_for 20 started || fail "the backup does not begin"
cbwctl backup "$shm" f --cancel
[ "$(stat -c %s "$tmp/image")" = $size ] || fail "the image is gone"
not_taken 'is not marked as the image of "e"' --since=e
cbwctl backup "$shm" g --since=auto --to="$tmp/image" --json >"$tmp/json"
json 'j["mode"] == "incremental" and j["since"] == "a"' <"$tmp/json"
cmp "$tmp/disk" "$tmp/image"

# ---- The server is killed: the next one continues ----
guest_c "import os; h.pwrite (os.urandom ($size), 0)"
cp "$tmp/disk" "$tmp/then"
cbwctl backup "$shm" h --since=g --to="$tmp/image" --speed=64k --detach
wait_for 20 started || fail "the backup does not begin"
kill_server disk KILL
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k cbw-commands=on
guest_c "h.pwrite (b'z' * 70000, 40000)"
cbwctl backup "$shm" h --speed=0
cbwctl backup "$shm" h --json >"$tmp/json"
json 'j["mode"] == "incremental" and j["since"] == "g"' <"$tmp/json"
cmp "$tmp/then" "$tmp/image"
cbwctl backup "$shm" i --since=auto --to="$tmp/image" >/dev/null
cmp "$tmp/disk" "$tmp/image"

# ---- The point goes while it is needed no more ----
guest_c "import os; h.pwrite (os.urandom ($size), 0)"
cp "$tmp/disk" "$tmp/then"
cbwctl backup "$shm" k --since=i --to="$tmp/image" --speed=64k --detach
wait_for 20 started || fail "the backup does not begin"
cbwctl drop "$shm" i
guest_c "h.pwrite (b'y' * 70000, 40000)"
cbwctl backup "$shm" k --speed=0
cbwctl backup "$shm" k >/dev/null
cmp "$tmp/then" "$tmp/image"
# It was the only one: a full backup is needed, and says why.
for p in $(cbwctl status "$shm" --json | "$PYTHON" -c '
import json, sys
print (*[p["name"] for p in json.load (sys.stdin).get ("points", [])])'); do
    cbwctl drop "$shm" "$p" || :
done
