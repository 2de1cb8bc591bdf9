#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A cell with the id that the next snapshot gets, as a host that went down
# may leave it: it is not taken for that snapshot's.

. ./functions.sh
set -e

target_faults "$tmp/target"
random_file "$tmp/disk" 4M
cp "$tmp/disk" "$tmp/original"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-writeback=1M
stop_server disk
"$PYTHON" - "$shm" "$(segment get "$shm" cells_offset)" \
          "$(segment get "$shm" nr_cells)" <<'PY'
import struct, sys
cells, nr = int (sys.argv[2]), int (sys.argv[3])
with open (sys.argv[1], "r+b") as f:
    next_id, = struct.unpack ("=Q", f.read (4096)[256:264])
    f.seek (cells)
    f.write (struct.pack ("=IIQQQ", 1, 0, next_id, 100, 0))
    f.seek (cells + (nr * 32 + 4095) // 4096 * 4096)
    f.write (b"stale" * 800)
PY
target_fault hang
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-writeback=1M \
           cbw-target="$tmp/target" -D cbw.stuck_wait=1
start_snap "$shm"
guest <<PY
h.pwrite (b"2" * 4096, 409600)
PY
view_is "$tmp/original"
target_fault none
