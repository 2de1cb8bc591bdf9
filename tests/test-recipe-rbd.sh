#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/recipes.md: an image in Ceph RBD, kept up to date through qemu-nbd.  No
# Ceph is needed: qemu-nbd writes to a raw file in the place of
# rbd:backup/vm1, and "rbd" is a script that makes and copies that file.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-nbd nbdinfo

cat >"$tmp/bin/rbd" <<END
#!/bin/bash
set -e
case "\$*" in
    "create --size "*"B backup/vm1") truncate -s "\${3%B}" "$tmp/rbd" ;;
    "snap create backup/vm1@"*) cp "$tmp/rbd" "$tmp/rbd@\${3#*@}" ;;
    *) echo "rbd \$*?" >&2; exit 1 ;;
esac
# What the disk is after each of the backups.
[ "\$1" = create ] || cp "$tmp/is/rbd" "$tmp/is/\${3#*@}"
END
chmod +x "$tmp/bin/rbd"
random_file "$tmp/disk.img" 8M
change_between
recipe "Keep an image in Ceph RBD up to date"
sed -i "s,rbd:backup/vm1 ,$tmp/rbd ," "$tmp/recipe"
[ "$(grep -c -- "qemu-nbd -f raw $tmp/rbd \]" "$tmp/recipe")" -eq 2 ] ||
    fail "the recipe's commands"
run_commands "rbd"
expect_in "$tmp/recipe.out" 'Writing what has changed since "rbd"'
for day in monday tuesday; do
    same "$tmp/is/$day" "$tmp/rbd@$day"
done
! cmp -s "$tmp/is/monday" "$tmp/is/tuesday" || fail "the guest changed nothing"
