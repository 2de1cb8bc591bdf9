#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A target that does not read as zeroes: full of rubbish (--force), or a
# server that does not say.  Clusters of zeroes must be written then, and
# holes that the guest trims, too.
set -e
. ./functions.sh
requires fallocate

uri="nbd+unix:///?socket=$tmp/target.sock"

check ()
{
    local filters=$1
    shift
    random_file "$tmp/target" 4M
    start_nbdkit target $filters file "$tmp/target" "$@"
    random_file "$tmp/image" 4M
    fallocate -p -o 1M -l 2M "$tmp/image"                    # a hole
    dd if=/dev/zero of="$tmp/image" bs=64k seek=3 count=5 conv=notrunc \
       status=none                                           # zeroes
    cp "$tmp/image" "$tmp/old"
    start_disk file "$tmp/image" cbw-shm="$shm"
    if [ -z "$filters" ]; then  # it says what it has
        cbwctl_fails 1 "the export holds data" \
                     create "$shm" snapshot --target="$uri"
    fi
    cbwctl create "$shm" snapshot --target="$uri" --force >/dev/null
    scenario "$tmp/old"
    start_snap "$shm"
    guest <<'PY'
h.trim (2 << 20, 512 << 10)     # of the hole, and more
h.zero (1 << 20, 5 << 19)
h.pwrite (b"x", 3000000)
PY
    view_is "$tmp/old"
    stop_server snap
    stop_server disk
    stop_server target
    rm "$shm"
}

check ""
check --filter=noextents
check "--filter=noextents --filter=nozero"
check --filter=multi-conn multi-conn-mode=disable
