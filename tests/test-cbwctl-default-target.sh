#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Where old data goes without --target: beside the segment, if only its owner
# can make files there; else into /var/tmp/nbdkit-cbw-UID, which is made, and
# which must be the user's alone.  Nobody can have put a file there first.
# The test has a /var/tmp and a /dev/shm of its own.

if [ -z "${CBW_UNSHARED:-}" ]; then
    export CBW_UNSHARED=1
    [ "$(id -u)" -eq 0 ] || map=--map-root-user
    if unshare ${map:-} --mount true 2>/dev/null; then
        exec unshare ${map:-} --mount --propagation private "$0" "$@"
    fi
    echo "$(basename "$0" .sh): SKIP: there are no mount namespaces here"
    exit 77
fi

. ./functions.sh
set -e
for dir in /var/tmp /dev/shm; do
    mount -t tmpfs -o mode=1777 none $dir ||
        skip "cannot mount a tmpfs"
done

private=/var/tmp/nbdkit-cbw-$(id -u)
truncate -s 1M "$tmp/disk"

# created SEGMENT TARGET: that is where the old data goes.
created ()
{
    cbwctl create "$1" today >"$tmp/out"
    expect_in "$tmp/out" "Old data goes to $2."
    [ -f "$2" ] || fail "no target"
    cbwctl status "$1" --json |
        json "j['snapshots'][0]['target']['filename'] == '$2'"
    cbwctl drop "$1" today >/dev/null
    absent "$2"
}

# -- A segment in memory
start_disk file "$tmp/disk" cbw-shm=vm1
umask 077                       # the directory does not depend on it
created vm1 "$private/vm1-today.cow"
[ "$(stat -c '%a %u' "$private")" = "700 $(id -u)" ] || fail "its mode"
rmdir "$private"
umask 0777
created vm1 "$private/vm1-today.cow"
umask 022
[ "$(stat -c '%a %u' "$private")" = "700 $(id -u)" ] || fail "its mode"
start_nbdkit own "$plugin" vm1 create=true snapshot=own
[ -f "$private/vm1-own.cow" ] || fail "create=true goes elsewhere"
stop_server own
absent "$private/vm1-own.cow"

# refuse: whatever is there under that name is not used.
refuse ()
{
    cbwctl_fails 1 "$private: is not a directory that only user $(id -u) may" \
                 create vm1 today
    expect_in "$tmp/refused.log" "--target"
    refused "$plugin" vm1 create=true
    expect_in "$tmp/refused.log" "$private: is not a directory"
    cbwctl status vm1 --json | json "j['snapshots'] == []"
    [ -z "$(find -L "$private" /var/tmp -name '*.cow')" ] || fail "a target"
}
for mode in 755 770 701 711; do
    chmod $mode "$private"
    refuse
done
rmdir "$private"
mkdir -m 700 "$tmp/elsewhere"
ln -s "$tmp/elsewhere" "$private"
refuse
rm "$private"
: >"$private"
chmod 700 "$private"
refuse
rm "$private"
mkfifo -m 700 "$private"
refuse
rm "$private"
if mkdir -m 700 "$private" && chown 65534 "$private" 2>/dev/null; then
    refuse
    rmdir "$private"
fi
stop_server disk

# -- In a file system of a disk
if [ "$(stat -f -c %T "$tmp")" = tmpfs ]; then
    echo "$me: $tmp is in memory: the rest is not tested"
    exit 0
fi
mkdir -m 755 "$tmp/mine" "$tmp/shared"
chmod 1777 "$tmp/shared"
start_disk file "$tmp/disk" cbw-shm="$tmp/mine/vm1"
created "$tmp/mine/vm1" "$tmp/mine/today.cow"
chmod 775 "$tmp/mine"
created "$tmp/mine/vm1" "$private/vm1-today.cow"
stop_server disk
# A file which a neighbour has made first is not used.
: >"$tmp/shared/today.cow"
chmod 666 "$tmp/shared/today.cow"
start_disk file "$tmp/disk" cbw-shm="$tmp/shared/vm1"
created "$tmp/shared/vm1" "$private/vm1-today.cow"
[ ! -s "$tmp/shared/today.cow" ] || fail "the neighbour's file was used"
