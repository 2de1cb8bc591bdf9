#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: push a backup to another host over TLS.  The other host is
# a server on a Unix socket here; the rest is as it stands.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires_tls

random_file "$tmp/disk.img" 4M
truncate -s 20M "$tmp/disk.img"
cp "$tmp/disk.img" "$tmp/old"
truncate -s 20M "$tmp/copy"
other_host "$tmp/copy"
serve_disk

run_at_other_host "Push a backup to another host, over TLS"
expect_in "$tmp/recipe.out" "Backup complete"
guest <<'PY'
h.pwrite (b"later" * 1000, 0)
PY
same "$tmp/copy" "$tmp/old"
