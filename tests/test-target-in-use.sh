#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# --force removes no file that is in use: the guest's disk, which another
# process has open here, is still the guest's disk.  Nor does it if /proc is
# not mounted.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
inode=$(stat -c %i "$tmp/disk")

unharmed ()
{
    [ "$(stat -c %i "$tmp/disk")" = "$inode" ] || fail "$1: it was removed"
    cmp "$tmp/disk" "$tmp/old" >&2 || fail "$1: it was changed"
    absent "$tmp"/disk.partial-*
}
try ()
{
    for command in "create $shm s --target" "backup $shm --to"; do
        # shellcheck disable=SC2086
        cbwctl_fails 1 "$tmp/disk: is in use by" $command="$tmp/disk" --force
        unharmed "$1: $command"
    done
}

# The disk is open in a child, or in a server of its own.
cp "$tmp/disk" "$tmp/old"
start_disk nbd command=nbdkit arg=-f arg=--exit-with-parent arg=file \
           arg="$tmp/disk" cbw-shm="$shm"
try "a child has it"
stop_server disk

# (Sanitizers need it.)
if [ "$SANITIZERS" = no ] && unshare -m umount -l /proc 2>/dev/null; then
    cat >"$tmp/noproc" <<'SH'
#!/bin/sh
exec unshare -m sh -c 'umount -l /proc && exec "$@"' sh "$@"
SH
    chmod +x "$tmp/noproc"
    eval "start_server disk '$tmp/noproc' $(nbdkit_command) -f \
          -U '$tmp/disk.sock' --filter='$filter' file '$tmp/disk' \
          cbw-shm='$shm'"
    try "no /proc"
    stop_server disk
fi

# An old image that somebody reads is not replaced, at the begin of a
# backup or at its end; but then it is.
start_disk file "$tmp/disk" cbw-shm="$shm"
echo old >"$tmp/image"
exec 5<"$tmp/image"
cbwctl_fails 1 "$tmp/image: is in use by" backup "$shm" \
             --to="$tmp/image" --force
exec 5<&-
cbwctl backup "$shm" --to="$tmp/image" --force --speed=1 --detach
exec 5<"$tmp/image"
cbwctl backup "$shm" --speed=0
cbwctl_fails 1 "failed" backup "$shm"
expect_in "$tmp/disk.log" "$tmp/image: is in use by"
[ "$(cat "$tmp/image")" = old ] || fail "it was replaced"
absent "$tmp"/image.partial-*
exec 5<&-
cbwctl backup "$shm" --to="$tmp/image" --force >/dev/null
same "$tmp/image" "$tmp/disk"

# Links are not followed, nor is what has another name, or another's, taken.
echo precious >"$tmp/precious"
ln -s "$tmp/precious" "$tmp/symbolic"
ln "$tmp/precious" "$tmp/hard"
for command in "create $shm s --target" "backup $shm --to"; do
    # shellcheck disable=SC2086
    cbwctl_fails 1 "must be a regular file" $command="$tmp/symbolic" --force
    # shellcheck disable=SC2086
    cbwctl_fails 1 "has 2 names" $command="$tmp/hard" --force
    if [ "$(id -u)" = 0 ]; then
        echo other >"$tmp/other"
        chown 1 "$tmp/other"
        # shellcheck disable=SC2086
        cbwctl_fails 1 "belongs to another user" $command="$tmp/other" --force
    fi
done
[ "$(cat "$tmp/precious")" = precious ] || fail "it was changed"
