#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What drop gives back: the oldest's target is removed; of one that older
# ones look through, what they do not need is punched out, and it stays
# hidden; it goes when it becomes the oldest.

. ./functions.sh
set -e

MB=$(( 1 << 20 ))

# The target of a dropped snapshot, if it is still needed, is moved aside.
used ()
{
    local file=$1

    [ -f "$file" ] || file=$(echo "$1".dropped-*)
    echo $(( $(stat -c %b "$file") * 512 ))
}
# is_used FILE CLUSTERS
is_used ()
{
    local n
    n=$(used "$1")
    [ "$n" -eq $(( $2 * 65536 )) ] || fail "$1 uses $n bytes, not $2 clusters"
}

# Three snapshots, and behind each one writes of a MiB (16 clusters):
#          0M 1M 2M 3M
# old      o  o
# middle      m  m
# new         n  n  n
# old sees 0M, 1M from its own target, 2M from middle's, 3M from new's.
setup ()
{
    rm -f "$shm" "$tmp"/*.cow
    random_file "$tmp/disk" 8M
    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm"
    cp "$tmp/disk" "$tmp/is-old"
    cbwctl create "$shm" old >/dev/null
    write 0 2
    cp "$tmp/disk" "$tmp/is-middle"
    cbwctl create "$shm" middle >/dev/null
    write 1 2
    cp "$tmp/disk" "$tmp/is-new"
    cbwctl create "$shm" new >/dev/null
    write 1 3
    for s in old middle new; do
        views_are_right $s
    done
    is_used "$tmp/old.cow" 32
    is_used "$tmp/middle.cow" 32
    is_used "$tmp/new.cow" 48
}
write ()
{
    nbdsh -u "$disk" -c "
import os
h.pwrite (os.urandom ($2 * $MB), $1 * $MB)
h.flush ()"
}
views_are_right ()
{
    local s
    for s; do
        view_is "$tmp/is-$s" "nbd+unix:///$s?socket=$tmp/snap.sock"
    done
}
teardown ()
{
    cbwctl check "$shm" >/dev/null
    stop_server snap
    stop_server disk
    cbwctl check "$shm" >/dev/null
}

# The newest: only 3M, which old and middle have nowhere else; no more copies
# go to it.
setup
cbwctl drop "$shm" new >/dev/null
is_used "$tmp/new.cow" 16
is_used "$tmp/middle.cow" 32
views_are_right old middle
write 4 1
is_used "$tmp/new.cow" 16
is_used "$tmp/middle.cow" 48
views_are_right old middle
# Then the middle one: old needs 2M and 4M of it, and what new has.
cbwctl drop "$shm" middle >/dev/null
is_used "$tmp/middle.cow" 32
is_used "$tmp/new.cow" 16
views_are_right old
cbwctl drop "$shm" old >/dev/null
absent "$tmp"/*.cow*
teardown

# The middle one first: 1M of it is of no use, old has its own.
setup
cbwctl drop "$shm" middle >/dev/null
is_used "$tmp/middle.cow" 16
is_used "$tmp/new.cow" 48
views_are_right old new
# Without old, middle goes too.
cbwctl drop "$shm" old >/dev/null
absent "$tmp"/old.cow* "$tmp"/middle.cow*
is_used "$tmp/new.cow" 48
views_are_right new
cbwctl drop "$shm" new >/dev/null
absent "$tmp"/*.cow*
teardown

# Dropping the oldest frees all of its space at once, and nothing else, also
# while a program has its target open.
setup
exec 5<"$tmp/old.cow"
cbwctl drop "$shm" old >/dev/null
absent "$tmp"/old.cow*
[ "$(stat -L -c '%s %b' "/proc/$$/fd/5")" = "0 0" ] ||
    fail "a reader keeps the space of the target"
exec 5<&-
is_used "$tmp/middle.cow" 32
is_used "$tmp/new.cow" 48
views_are_right middle new
cbwctl drop "$shm" middle new >/dev/null
absent "$tmp"/*.cow*
teardown

# One that was dropped, and whose target the server had no time to remove: that
# goes though somebody reads it.
rm -f "$shm"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/left.cow"
write 0 2
stop_server disk
segment set "$shm" entry.state 4
exec 5<"$tmp/left.cow"
start_disk file "$tmp/disk" cbw-shm="$shm"
absent "$tmp"/left.cow*
exec 5<&-
stop_server disk
