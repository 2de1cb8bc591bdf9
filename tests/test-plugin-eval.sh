#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of a disk behind nbdkit-eval-plugin (as nbdkit-sh-plugin,
# shell commands) in its different thread models: also where the plugin
# takes one request at a time.

. ./functions.sh
set -e

random_file "$tmp/original" 1M
for model in parallel serialize_requests serialize_all_requests; do
    cp "$tmp/original" "$tmp/disk"
    rm -f "$shm" "$tmp/target" "$tmp/busy" "$tmp/overlap"
    start_disk eval thread_model="echo $model" \
        get_size="stat -c %s $tmp/disk" \
        pread="mkdir $tmp/busy 2>/dev/null || touch $tmp/overlap
               dd if=$tmp/disk skip=\$4 count=\$3 \\
                  iflag=skip_bytes,count_bytes,fullblock status=none
               rmdir $tmp/busy 2>/dev/null || :" \
        pwrite="mkdir $tmp/busy 2>/dev/null || touch $tmp/overlap
               dd of=$tmp/disk seek=\$4 oflag=seek_bytes conv=notrunc \\
                  status=none
               rmdir $tmp/busy 2>/dev/null || :" \
        flush=":" \
        cbw-shm="$shm" cbw-target="$tmp/target"
    scenario "$tmp/original"
    stop_server disk
    # One at a time, the service threads' reads among them.
    [ $model = parallel ] || absent "$tmp/overlap"
    : >"$tmp/disk.log"
done
