#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: full backups with nbdcopy and qemu-img, and a few named
# snapshots, each while a guest writes.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img

random_file "$tmp/disk.img" 8M
serve_disk

# A guest which changes nothing but every byte, over and over: the only
# moments at which all are alike are between two of its rounds.
guest <<PY >"$tmp/writer.log" 2>&1 &
import os
size = h.get_size ()
n = 0
while not os.path.exists ("$tmp/stop"):
    n += 1
    for offset in range (0, size, 1 << 20):
        h.pwrite (bytes ([n % 256]) * (1 << 20), offset)
    if n == 2:
        open ("$tmp/writing", "w").close ()
PY
writer=$!
wait_for 30 test -e "$tmp/writing" || fail "the writer did not start"

# one_moment FILE: the writer goes through the disk from its beginning, so
# a backup of one moment has one change of bytes at most, and that to the
# round before.
one_moment ()
{
    "$PYTHON" - "$1" <<'PY'
import re, sys
data = open (sys.argv[1], "rb").read ()
assert len (data) == 8 << 20
runs = [m.group (0)[0] for m in re.finditer (rb"(?s)(.)\1*", data)]
assert len (runs) <= 2, runs
assert len (runs) == 1 or (runs[0] - runs[1]) % 256 == 1, runs
PY
}

run_recipe "Back up a running disk"
one_moment "$tmp/backup.img" || fail "the backup is not of one moment"
run_recipe "Back up to compressed qcow2"
qemu-img convert -O raw "$tmp/backup.qcow2" "$tmp/backup.raw"
one_moment "$tmp/backup.raw" || fail "the qcow2 is not of one moment"
run_recipe "Keep a few snapshots, and look into them"
one_moment "$tmp/monday.img" || fail "monday is not of one moment"
expect_in "$tmp/recipe.out" 'export="tuesday"'

touch "$tmp/stop"
wait $writer || { cat "$tmp/writer.log" >&2; fail "the writer"; }
nbdcopy "nbd+unix:///tuesday?socket=$tmp/snap.sock" "$tmp/tuesday.img"
one_moment "$tmp/tuesday.img" || fail "tuesday is not of one moment"
