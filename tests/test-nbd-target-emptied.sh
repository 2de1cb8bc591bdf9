#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The export of a dropped snapshot holds no data any more, even if its server
# cannot trim, so it can be the target of another.
set -e
. ./functions.sh

uri="nbd+unix:///?socket=$tmp/target.sock"
truncate -s 1M "$tmp/target"
random_file "$tmp/disk" 1M
start_nbdkit target eval get_size='echo 1M' \
    pread="dd if='$tmp/target' iflag=skip_bytes,count_bytes skip=\$4 count=\$3" \
    pwrite="dd of='$tmp/target' oflag=seek_bytes seek=\$4 conv=notrunc"
start_disk file "$tmp/disk" cbw-shm="$shm"
for i in 1 2; do
    cbwctl create "$shm" "snapshot$i" --target="$uri" >/dev/null
    guest <<PY
h.pwrite (b"$i" * 100000, 500000)
PY
    cmp -s "$tmp/target" <(head -c 1M /dev/zero) && fail "nothing was copied"
    cbwctl drop "$shm" "snapshot$i"
    cmp "$tmp/target" <(head -c 1M /dev/zero)
done
