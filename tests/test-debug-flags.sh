#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit -D cbw.FLAG shows what the engine does; without it nothing is said.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk.img"
flags=
for flag in copy claims cut end backup takeover; do
    flags+=" -D cbw.$flag=1"
done

use ()
{
    guest <<'END'
h.pwrite(b"x" * 70000, 65536)
END
}

# shellcheck disable=SC2086
start_disk -v $flags file "$tmp/disk.img" cbw-shm="$shm" \
           cbw-cluster-size=4k
cbwctl create "$shm" one --target="$tmp/one.cow"
use
cbwctl backup "$shm" two --to="$tmp/two.img"
kill_server disk KILL
# shellcheck disable=SC2086
start_disk -v $flags file "$tmp/disk.img" cbw-shm="$shm" \
           cbw-cluster-size=4k
expect_in "$tmp/disk.log" 'cbw: takeover: entry 0: "one" (id 1), state'
cbwctl drop "$shm" one
for text in 'copy: clusters 16 to 34, for "one": copied' \
            'claims: clusters 16 to 34 for "one"' \
            'cut: hold 1: snapshot "one" is in the chain' \
            'cut: hold 1: guests continue after' \
            'end: snapshot "one" is hidden' \
            'end: snapshot "one" is closed, and its entry free' \
            'backup: "two": complete'; do
    expect_in "$tmp/disk.log" "cbw: $text"
done
stop_server disk

: >"$tmp/disk.log"
start_disk -v file "$tmp/disk.img" cbw-shm="$shm"
cbwctl create "$shm" three --target="$tmp/three.cow"
use
stop_server disk
not_in "$tmp/disk.log" "cbw: copy:"
not_in "$tmp/disk.log" "cbw: cut:"
