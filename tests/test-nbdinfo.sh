#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What nbdinfo says of the view: size, the list of exports with their
# descriptions, JSON, what it can do; and of an export that is not there.

. ./functions.sh
set -e

truncate -s 3000001 "$tmp/disk"
before=$(date +%s)
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k \
           cbw-target="$tmp/target" \
           cbw-snapshot=monday
start_snap "$shm"
after=$(date +%s)

[ "$(nbdinfo --size "$snap")" = 3000001 ] || fail "--size"
[ "$(nbdinfo --size "nbd+unix:///monday?socket=$tmp/snap.sock")" = 3000001 ] ||
    fail "--size by name"

# One snapshot, as the default and by its name, with when and how it is.
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" 'export="monday"'
[ "$(grep -c '^export=' "$tmp/list")" = 1 ] || fail "one export is listed"
expect_in "$tmp/list" "export-size: 3000001"
created=$(sed -n 's/.*description: snapshot of \(.* UTC\), live$/\1/p' \
              "$tmp/list")
[ -n "$created" ] || { cat "$tmp/list" >&2; fail "the description"; }
created=$(date -d "$created" +%s)
[ "$created" -ge "$before" ] && [ "$created" -le "$after" ] ||
    fail "created at $created, not in $before to $after"

# What it can do.
for yes in can_cache can_df can_multi_conn; do
    nbdinfo --can ${yes#can_} "$snap" || fail "$yes"
    expect_in "$tmp/list" "$yes: true"
done
nbdinfo --is readonly "$snap" || fail "it is not read-only"
for no in write trim zero fua; do
    if nbdinfo --can $no "$snap"; then fail "it can $no"; fi
done
expect_in "$tmp/list" "base:allocation"
expect_in "$tmp/list" "block_size_minimum: 1"
expect_in "$tmp/list" "block_size_preferred: 65536"

nbdinfo --json --list "$snap" >"$tmp/json"
"$PYTHON" - <<PY
import json
e, = json.load (open ("$tmp/json"))["exports"]
assert e["export-name"] == "monday"
assert e["export-size"] == 3000001
assert e["description"].startswith ("snapshot of ")
assert e["description"].endswith (", live")
assert e["is_read_only"] is True
assert e["can_multi_conn"] is True
assert e["can_trim"] is False
assert e["contexts"] == ["base:allocation"]
PY

# One that is not there.
if nbdinfo "nbd+unix:///tuesday?socket=$tmp/snap.sock" >"$tmp/out" 2>&1; then
    fail "there is no export tuesday"
fi
grep -qi "tuesday\|not found\|unknown\|no such\|export" "$tmp/out" ||
    { cat "$tmp/out" >&2; fail "a message"; }
expect_in "$tmp/snap.log" "$shm: there is no snapshot \"tuesday\""

# Writes and the like are refused, to clients who do not ask first.
reader <<PY
import errno
h.set_strict_mode (0)
for op in [lambda: h.pwrite (b"x" * 512, 0), lambda: h.zero (512, 0),
           lambda: h.trim (512, 0)]:
    try:
        op ()
        assert False
    except nbd.Error as e:
        assert e.errnum in (errno.EPERM, errno.EINVAL), e.string
try:
    h.pwrite (b"x" * 512, 0)
except nbd.Error as e:
    assert e.errnum == errno.EPERM, e.string
# Past the end.
for offset, n in (3000000, 2), (3000001, 1):
    try:
        h.pread (n, offset)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EINVAL, e.string
assert h.pread (1, 3000000) == b"\0"
PY
