#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What is no delta is refused, in words that say what to do; neighbours that
# cannot be opened are not listed.

. ./functions.sh
set -e
. "$top_srcdir/tests/delta.sh"

truncate -s 1M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
listed ()
{
    nbdinfo --list "$snap" | sed -n 's/^export="\(.*\)":$/\1/p' | sort |
        tr '\n' ' ' >"$tmp/listed"
    [ "$(cat "$tmp/listed")" = "$*${1:+ }" ] ||
        fail "listed are $(cat "$tmp/listed"), not $*"
}

# No point, no snapshot.
open_fails mon.. "$shm: there is no snapshot or checkpoint \"mon\""
cbwctl checkpoint "$shm" mon >/dev/null
open_fails mon.. "$shm: there is no snapshot that a delta could end at"
listed ""

cbwctl create "$shm" tue --target="$tmp/tue.cow" >/dev/null
listed "mon..tue tue"
cbwctl create "$shm" wed >/dev/null
listed "mon..tue tue tue..wed wed"

open_fails .. "$shm: \"..\" is no delta: that is A..B, or A.. for one to the"
open_fails ..tue "\"..tue\" is no delta"
open_fails mon..tue..wed "\"mon..tue..wed\" is no delta"
open_fails "$(printf 'n%.0s' {1..100}).." "nnn..\" is no delta"
open_fails sun..tue "there is no snapshot or checkpoint \"sun\""
open_fails Mon..tue "there is no snapshot or checkpoint \"Mon\""
open_fails mon...tue "there is no snapshot \".tue\""
open_fails mon..sun "there is no snapshot \"sun\"; a delta ends at one, as its"
open_fails mon..mon "there is no snapshot \"mon\"; a delta ends at one"
open_fails wed..tue "\"wed\" is newer than \"tue\"; a delta goes from the older"

# From a snapshot to itself nothing has changed.
delta_is tue..tue "0 16 1"

# A backup that is complete is no snapshot, but a point.
cbwctl backup "$shm" full --to="$tmp/full.img" >/dev/null 2>&1
open_fails mon..full "there is no snapshot \"full\"; a delta ends at one"

# tue breaks: no delta ends there, but others begin there.
stop_server disk
rm "$tmp/tue.cow"
start_disk file "$tmp/disk" cbw-shm="$shm"
states tue=broken wed=live
open_fails mon..tue "snapshot \"tue\" is broken, so its data cannot be read"
delta_is mon..wed "0 16 1"
delta_is tue..wed "0 16 1"
listed "tue tue..wed wed"

# A filter that does not mark changes has served the disk.
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-track=off
open_fails mon..wed "changes since \"mon\" are not known any more: the disk was \
served by a filter that does not mark changes; make a full copy"
listed "tue wed"
cbwctl create "$shm" thu >/dev/null
open_fails thu.. "there is no snapshot or checkpoint \"thu\""
stop_server disk

# For good; but new points are good.
start_disk file "$tmp/disk" cbw-shm="$shm"
open_fails wed..thu "changes since \"wed\" are not known any more"
cbwctl checkpoint "$shm" fri >/dev/null
cbwctl create "$shm" sat >/dev/null
delta_is fri..sat "0 16 1"
listed "fri..sat sat thu tue wed"

# Without the server what is open stays, and what is not is refused or not,
# but nothing hangs.
stop_server disk
open_fails thu.. "there is no snapshot or checkpoint \"thu\""
stop_server snap
