#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit snapshot-access create=true: one command makes a consistent backup
# while the guest writes, and the snapshot is gone after it; also within two
# seconds after it was killed.

. ./functions.sh
set -e

random_file "$tmp/disk" 16M
start_disk file "$tmp/disk" cbw-shm="$shm"

# Stamps: sector n has the number of the write that went there last.
nbdsh -u "$disk" -c - <<PY &
import os, random
random.seed (2)
n = 0
while not os.path.exists ("$tmp/stop"):
    n += 1
    # First the log, then the data.
    h.pwrite (n.to_bytes (8, "little") * 64, 512 * (n % 1000))
    h.pwrite (n.to_bytes (8, "little") * 64,
              1024 * 1024 + 512 * random.randrange (20000))
    if n == 100:
        open ("$tmp/writing", "w").close ()
PY
writer=$!
wait_for 30 test -e "$tmp/writing" || fail "no writes"

eval "$(nbdkit_command) -U - \"\$plugin\" \"\$shm\" create=true \
        target='$tmp/own' --run 'nbdcopy \"\$uri\" \"$tmp/out.img\"'"
[ "$(stat -c %s "$tmp/out.img")" -eq $(( 16 << 20 )) ] || fail "its size"
absent "$tmp/own"
cbwctl status "$shm" --json | json "j['snapshots'] == []"

# A point in time: the newest write in it was logged, and the one before it
# had arrived, so that the logs have no gap.
"$PYTHON" - "$tmp/out.img" <<'PY'
import sys
d = open (sys.argv[1], "rb").read ()
def at (o): return int.from_bytes (d[o:o + 8], "little")
logs = [at (512 * i) for i in range (1000)]
logs = [n for i, n in enumerate (logs) if n % 1000 == i and n < 1 << 32]
newest = max (logs)
assert sorted (logs)[-99:] == list (range (newest - 98, newest + 1))
stamps = [at (o) for o in range (1 << 20, (1 << 20) + 20000 * 512, 512)]
stamps = [n for n in stamps if n < 1 << 32]
assert max (stamps) in (newest, newest - 1), (max (stamps), newest)
PY

# Killed: the filter finds out, within two seconds unless the machine is busy.
gone ()
{
    [ ! -e "$tmp/own" ] &&
        "$cbwctl" status "$shm" | grep -q 'snapshots  0 of'
}
for try in 1 2 3 late; do
    [ $try != late ] || fail "it took $ms ms"
    start_nbdkit own "$plugin" "$shm" create=true snapshot=mine target="$tmp/own"
    cbwctl status "$shm" --json |
        json "[(s['name'], s['owned'], s['state']) for s in j['snapshots']] ==
              [('mine', True, 'live')]"
    start=$(date +%s%N)
    kill_server own KILL
    wait_for 10 gone || fail "the snapshot is still there"
    ms=$(( ($(date +%s%N) - start) / 1000000 ))
    [ $ms -ge 2000 ] || break
done

# Stopped in good order: at once.
start_nbdkit own "$plugin" "$shm" create=true
cbwctl status "$shm" --json | json "len (j['snapshots']) == 1"
stop_server own
cbwctl status "$shm" --json | json "j['snapshots'] == []"
absent "$tmp"/*.cow

touch "$tmp/stop"
wait $writer
cbwctl check "$shm" >/dev/null
