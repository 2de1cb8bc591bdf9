#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: push a backup to another host over TLS.  The other host is
# a server on a Unix socket here; the rest is as it stands.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires psktool
if ! "$NBDKIT" --dump-config | grep -q '^tls=yes'; then
    skip "this nbdkit has no TLS"
fi

psktool -u guest1 -p "$tmp/vm1.psk" >/dev/null 2>&1
random_file "$tmp/disk.img" 4M
truncate -s 20M "$tmp/disk.img"
cp "$tmp/disk.img" "$tmp/old"
truncate -s 20M "$tmp/copy"
start_server target "$NBDKIT" -f -U "$tmp/target.sock" --tls=require \
             --tls-psk="$tmp/vm1.psk" file "$tmp/copy"
serve_disk

run_at_other_host "Push a backup to another host, over TLS"
expect_in "$tmp/recipe.out" "Backup complete"
guest <<'PY'
h.pwrite (b"later" * 1000, 0)
PY
same "$tmp/copy" "$tmp/old"
