#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A target over TLS, with a pre-shared key.
set -e
. ./functions.sh
requires psktool
if ! "$NBDKIT" --dump-config | grep -q '^tls=yes'; then
    skip "this nbdkit has no TLS"
fi

psktool -u guest -p "$tmp/keys" >/dev/null
psktool -u guest -p "$tmp/others" >/dev/null
random_file "$tmp/image" 4M
cp "$tmp/image" "$tmp/old"
start_server target "$NBDKIT" -f -U "$tmp/target.sock" --tls=require \
             --tls-psk="$tmp/keys" memory 4M
uri="socket=$tmp/target.sock&tls-psk-file=$tmp"

start_disk file "$tmp/image" cbw-shm="$shm"
cbwctl_fails 1 "cannot connect" \
             create "$shm" snapshot --target="nbd+unix:///?socket=$tmp/target.sock"
cbwctl_fails 1 "cannot connect" \
             create "$shm" snapshot --target="nbds+unix://guest@/?$uri/others"
cbwctl create "$shm" snapshot --target="nbds+unix://guest@/?$uri/keys" \
       >/dev/null
scenario "$tmp/old"
