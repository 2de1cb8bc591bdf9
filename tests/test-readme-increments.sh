#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# README.md: the commands of "Only what has changed".  /backup is a directory of
# the test's.

. ./functions.sh
set -e
. "$top_srcdir/tests/recipe.sh"
requires qemu-img qemu-nbd nbdinfo

mkdir "$tmp/backup"
random_file "$tmp/disk.img" 8M
change_between
cd "$tmp"
mkdir -m 700 vm1
nbdkit -U disk.sock --filter=cbw file disk.img cbw-shm=vm1/segment \
       cbw-commands=on
nbdkit -U snap.sock snapshot-access vm1/segment

sed -n '/^\*\*Only what/,/^\*\*Restart/s/^    //p' "$top_srcdir/README.md" |
    sed "s,/backup/,$tmp/backup/," >commands
sed '/^cbwctl backup/d' commands >recipe
cat commands
[ "$(wc -l <recipe)" -eq 6 ] || fail "README.md has other commands"
run_commands "the commands for stock tools"
expect_in recipe.out " hole"
image_is mon.qcow2 mon
image_is tue.qcow2 tue

# The first time it is a full backup, and says so.
grep -- --since=auto commands >recipe
for says in "A full backup: there is no older image" \
            'Writing what has changed since "nightly"'; do
    run_commands "the server's image"
    same backup/vm1.img is/nightly
    if ! getfattr -n user.nbdkit-cbw.point backup/vm1.img >/dev/null 2>&1; then
        skip "this file system has no extended attributes"
    fi
    expect_in recipe.out "$says"
done

qemu-img create -q -f qcow2 -b "$tmp/tue.qcow2" -F qcow2 backup/wed.qcow2
grep -- --since=tue commands >recipe
run_commands "the server's overlay"
expect_in recipe.out 'Writing what has changed since "tue"'
image_is backup/wed.qcow2 wed
