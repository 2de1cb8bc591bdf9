#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl create with names that cannot be: refused with the reason, and
# nothing has changed, no file is left.

. ./functions.sh
set -e

mkdir "$tmp/dir"
truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$tmp/dir/shm"
shm=$tmp/dir/shm
cbwctl create "$shm" there >/dev/null
ls "$tmp/dir" >"$tmp/before"

bad ()
{
    cbwctl_fails 1 "$1" create "$shm" "$2" --force
    # Also if the target has a good name.
    cbwctl_fails 1 "$1" create "$shm" "$2" --target="$tmp/dir/target"
    ls "$tmp/dir" >"$tmp/after"
    same "$tmp/before" "$tmp/after"
    cbwctl status "$shm" --json |
        json "[s['name'] for s in j['snapshots']] == ['there']"
}
bad 'there is a snapshot "there" already; drop it, or choose another' there
bad "cannot be empty" ""
bad "cannot contain the character 0x2f" a/b
bad "cannot contain the character 0x2f" /
bad 'contains ".."' ..
bad 'contains ".."' a..b
bad "cannot contain the character 0x0a" $'a\nb'
bad "cannot contain the character 0x1b" $'\e[31m'
bad "cannot contain the character 0x7f" $'\177'
bad "must be UTF-8" $'\377'
bad "is longer than 63 bytes" "$(printf '%064d' 0)"

# The longest there can be, and odd but good ones.
cbwctl drop "$shm" there >/dev/null
for name in "$(printf '%063d' 0)" . -x 'a b' 'a"b\c' "ä€" '%s%n'; do
    cbwctl create "$shm" -- "$name" >/dev/null
    [ -f "$tmp/dir/$name.cow" ] || fail "no target for $name"
    cbwctl status "$shm" --json >"$tmp/json"
    "$PYTHON" - "$tmp/json" "$name" <<'PY'
import json, sys
names = [s["name"] for s in json.load (open (sys.argv[1]))["snapshots"]]
assert names == [sys.argv[2]], names
PY
    cbwctl_fails 1 'there is a snapshot' create "$shm" -- "$name"
    cbwctl map "$shm" --json -- "$name" >/dev/null
    cbwctl drop "$shm" -- "$name" >/dev/null
done
[ "$(ls -A "$tmp/dir")" = shm ] || fail "something was left"
