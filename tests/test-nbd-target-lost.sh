#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The connection to the target's server is lost: a copy fails, and the
# policy says what comes of it.  The server is found again when it is back,
# if it has kept what it had.
set -e
. ./functions.sh

uri="nbd+unix:///?socket=$tmp/target.sock"
truncate -s 8M "$tmp/target"
random_file "$tmp/old" 8M

begin ()
{
    cp "$tmp/old" "$tmp/image"
    start_nbdkit target "${@:2}"
    start_disk file "$tmp/image" cbw-shm="$shm" cbw-target="$uri" \
               cbw-on-error="$1"
    start_snap "$shm"
    guest <<'PY'
h.pwrite (b"1" * 3000000, 100000)
PY
}
end ()
{
    stop_server snap
    stop_server disk
    rm -f "$shm"
}
is ()
{
    cbwctl status --json "$shm" | json "j['snapshots'][0]['state'] == '$1'"
}

# break-guest-write: nothing is lost but time.
begin break-guest-write file "$tmp/target"
kill_server target KILL
guest <<'PY'
for i in range (3):
    try:
        h.pwrite (b"2" * 100000, 5000000)
        raise SystemExit ("the guest's write succeeded")
    except nbd.Error as e:
        assert e.errno == "EIO", e
h.pwrite (b"2", 2000000)        # it is in the target already
PY
is live
start_nbdkit target file "$tmp/target"
guest <<'PY'
import time
for i in range (100):           # not more often than the filter tries
    try:
        h.pwrite (b"2" * 100000, 5000000)
        break
    except nbd.Error:
        time.sleep (0.05)
else:
    raise SystemExit ("the server was not found again")
PY
view_is "$tmp/old"
end
stop_server target

# An idle connection that was lost costs nothing, whatever the policy.
truncate -s 0 "$tmp/target"
truncate -s 8M "$tmp/target"
begin break-snapshot file "$tmp/target"
kill_server target KILL
start_nbdkit target file "$tmp/target"
guest <<'PY'
h.pwrite (b"3" * 100000, 5000000)
PY
is live
view_is "$tmp/old"

# break-snapshot: the first copy that fails ends it.
kill_server target KILL
guest <<'PY'
h.pwrite (b"4" * 100000, 6000000)
PY
is broken
end

# One that is back without what it had acknowledged: the snapshot is broken
# even if no copy fails.
begin break-guest-write memory 8M
kill_server target KILL
start_nbdkit target memory 8M
nbdsh -c - <<PY
view = nbd.NBD ()
view.connect_uri ("$snap")
try:
    view.pread (512, 1000000)
    raise SystemExit ("the view was read")
except nbd.Error as e:
    assert e.errno == "EIO", e
PY
is_broken ()
{
    ( is broken ) 2>/dev/null
}
wait_for 10 is_broken
expect_in "$tmp/disk.log" "is back, but not what was written"
end
