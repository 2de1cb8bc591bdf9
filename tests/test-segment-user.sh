#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Started by root with nbdkit -u USER, server and plugin use the segment of
# that user: one that is made, one that is taken over.  Root may look at it,
# and becomes that user to take snapshots.

. ./functions.sh
set -e
if [ "$(id -u)" -ne 0 ] || ! getent passwd nobody >/dev/null; then
    skip "only root can become another user, nobody"
fi
requires setpriv

uid=$(id -u nobody)
random_file "$tmp/disk" 1M
chown nobody "$tmp/disk" "$tmp"
cp "$tmp/disk" "$tmp/old"
# What that user cannot reach is of no use to it.
cp "$cbwctl" "$tmp/cbwctl"
user ()
{
    setpriv --reuid="$uid" --regid="$(id -g nobody)" --clear-groups "$@"
}
user "$tmp/cbwctl" --version >/dev/null 2>&1 ||
    skip "another user cannot run cbwctl here"

start_disk -u nobody file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
[ "$(stat -c '%U %a' "$shm")" = "nobody 600" ] || fail "whose segment is it?"
stop_server disk
start_disk -u nobody file "$tmp/disk" cbw-shm="$shm"
start_snap -u nobody "$shm"
view_is "$tmp/old"

cbwctl status "$shm" --json | json 'len (j["snapshots"]) == 1'
cbwctl check "$shm" >/dev/null
text="belongs to another user (id $uid, and this program runs as 0); run this"
cbwctl_fails 1 "$text" create "$shm" mine
user "$tmp/cbwctl" create "$shm" theirs >"$tmp/out"
expect_in "$tmp/out" "Created snapshot"
user "$tmp/cbwctl" drop "$shm" snapshot theirs
stop_server snap

# As root, the plugin can no more than cbwctl.
refused "$plugin" "$shm" wait=0
expect_in "$tmp/refused.log" "belongs to another user"
