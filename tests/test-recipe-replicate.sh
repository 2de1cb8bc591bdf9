#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: an image on another host, kept up to date over TLS.  The
# other host is a server on a Unix socket here.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires_tls

random_file "$tmp/disk.img" 8M
truncate -s 8M "$tmp/copy"
other_host "$tmp/copy"
serve_disk
change_between
run_at_other_host "Keep an image on another host up to date, over TLS"
same "$tmp/copy" "$tmp/is/replica"
expect_in "$tmp/recipe.out" 'Writing what has changed since "replica"'

# As often as you like; it may be interrupted.
sed -n '/--since=/p' "$tmp/recipe" >"$tmp/again"
again () { (cd "$tmp" && bash -e "$1") >"$tmp/again.out" 2>&1; }
again again || { cat "$tmp/again.out" >&2; fail "again"; }
same "$tmp/copy" "$tmp/is/replica"
guest <<'PY'
import os
h.pwrite (os.urandom (4 << 20), 0)
PY
sed 's/--since=/--speed=64k --detach &/' "$tmp/again" >"$tmp/slow"
again slow || { cat "$tmp/again.out" >&2; fail "in the background"; }
"$cbwctl" backup "$tmp/vm1" replica --cancel
again again || { cat "$tmp/again.out" >&2; fail "after it was cancelled"; }
same "$tmp/copy" "$tmp/is/replica"

# Another image is not taken, and --force makes it a good one.
random_file "$tmp/other" 8M
cat "$tmp/other" >"$tmp/copy"
! again again || fail "another image was taken"
expect_in "$tmp/again.out" 'does not hold the image of "replica"'
same "$tmp/copy" "$tmp/other"
sed -n '/--since=/!s/--to=/--force &/p' "$tmp/recipe" >"$tmp/force"
again force || { cat "$tmp/again.out" >&2; fail "with --force"; }
same "$tmp/copy" "$tmp/is/replica"
again again || { cat "$tmp/again.out" >&2; fail "after --force"; }
same "$tmp/copy" "$tmp/is/replica"
