#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A segment that other users may open, or that another user made, is refused
# by server and clients, with a sentence that says what to do; by the server
# before it goes into the background.  Root may look at other users'.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"

# refuse_server SEGMENT TEXT: also without -f, with the message still there.
refuse_server ()
{
    local rc=0
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$1" \
            cbw-target="$tmp/new"
    expect_in "$tmp/refused.log" "$2"
    absent "$tmp/new"
    [ "${3-}" != late ] || return 0
    eval "$(nbdkit_command) -U '$tmp/refused.sock' --filter='$filter' \
          file '$tmp/disk' cbw-shm='$1'" >"$tmp/refused.log" 2>&1 || rc=$?
    [ $rc -ne 0 ] || fail "it went into the background"
    expect_in "$tmp/refused.log" "$2"
}
refuse_clients ()
{
    refused "$plugin" "$1" wait=0
    expect_in "$tmp/refused.log" "$2"
    cbwctl_fails 1 "$2" create "$1" s --target="$tmp/new"
    cbwctl_fails 1 "$2" drop "$1" s
}
refuse_lookers ()
{
    cbwctl_fails 1 "$2" status "$1"
    cbwctl_fails 1 "$2" check "$1"
}

# -- Made as it should be, and then opened to others
umask 0
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
umask 022
[ "$(stat -c %a "$shm")" = 600 ] || fail "its mode depends on the umask"
for mode in 640 602; do
    chmod $mode "$shm"
    text="$shm: other users may open it (its mode is $mode); remove it"
    refuse_clients "$shm" "$text"
    refuse_lookers "$shm" "$text"
done
chmod 600 "$shm"
cbwctl check "$shm" >/dev/null
stop_server disk

chmod 606 "$shm"
sum=$(checksum "$shm")
refuse_server "$shm" "$shm: other users may open it (its mode is 606)"
chmod 600 "$shm"

# -- Other names
ln "$shm" "$tmp/other"
refuse_server "$shm" "$shm: is one of 2 names (hard links) of this file"
rm "$tmp/other"
ln -s "$shm" "$tmp/other"
refuse_server "$tmp/other" "$tmp/other: is a symbolic link"
[ "$(checksum "$shm")" = "$sum" ] || fail "the segment was touched"

# -- Left for us by a neighbour, where all may make files
if [ "$(id -u)" -ne 0 ] || ! command -v setpriv >/dev/null; then
    echo "$me: the rest needs root and setpriv"
    exit 0
fi
name=$(basename "$tmp")
at_exit "rm -f '/dev/shm/$name'"
neighbour ()
{
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
neighbour sh -c "umask 0; : >'/dev/shm/$name'"
refuse_server "$name" "/dev/shm/$name: other users may open it"
neighbour chmod 600 "/dev/shm/$name"
refuse_server "$name" "/dev/shm/$name: belongs to another user (id 65534" late
[ ! -s "/dev/shm/$name" ] || fail "it was written to"
rm "/dev/shm/$name"
neighbour ln -s "$tmp/elsewhere" "/dev/shm/$name"
refuse_server "$name" "/dev/shm/$name: is a symbolic link"
absent "$tmp/elsewhere"

# A whole one of another user: root may look, and no more.
chown 65534 "$shm"
text="$shm: belongs to another user (id 65534, and this program runs as 0)"
refuse_server "$shm" "$text" late
for command in status check; do
    cbwctl $command "$shm" >"$tmp/out"
done
[ "$(checksum "$shm")" = "$sum" ] || fail "the segment was touched"
