#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl check finds what is wrong with points, and says what it is, one line
# each, with exit status 1; and no command crashes on such a segment.

. ./functions.sh
set -e

truncate -s 4M "$tmp/disk"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl checkpoint "$shm" old >/dev/null
guest <<PY
h.pwrite (b"1" * 65536, 0)
PY
cbwctl create "$shm" snap >/dev/null
cbwctl checkpoint "$shm" new >/dev/null
cbwctl check "$shm" >"$tmp/out"
not_in "$tmp/out" note
stop_server disk
cp "$shm" "$tmp/good"
cbwctl check "$shm" >"$tmp/out"
not_in "$tmp/out" note
[ "$(segment get "$shm" point1.id)" -eq 2 ]     # the offsets are right
[ "$(segment get "$shm" point2.size)" -eq 4194304 ]

# damage COMMAND ARGS...: of segment.py; the sum of point 1 is made right.
damage ()
{
    local command=$1
    shift
    segment "$command" "$shm" "$@"
    segment resum-point "$shm" 1
}

# Every command ends in good order, whatever it says.
survives ()
{
    local args rc
    for args in "status $shm" "status $shm --json" "map $shm old..snap" \
                "map $shm snap.. --json" "map $shm snap" \
                "status $shm --watch --count=1"; do
        rc=0
        # shellcheck disable=SC2086
        timeout 30 "$cbwctl" $args >"$tmp/out2" 2>"$tmp/err2" || rc=$?
        [ $rc -le 1 ] || fail "$args: status $rc"
        not_in "$tmp/err2" Sanitizer
    done
}

# checked STATUS TEXT: what check says now
checked ()
{
    local rc=0
    cbwctl check "$shm" >"$tmp/out" 2>&1 || rc=$?
    [ $rc -eq "$1" ] || { cat "$tmp/out"; fail "status $rc: $2"; }
    expect_in "$tmp/out" "$2"
    survives
    cp "$tmp/good" "$shm"
}

damage set point1.id 0
checked 1 "point 1: its id is 0"
damage set point1.id 99
checked 1 "point 1: its id is 99, and the next one to be given is 4"
damage set point1.id 3
checked 1 "points 1 and 2 have the same id, 3"
damage set point1.name "hex:$(printf 'a/b' | od -An -tx1 | tr -d ' ')"
checked 1 "point 1: a snapshot's name cannot contain"
damage set point1.name "hex:"
checked 1 "point 1: a snapshot's name"
damage set point1.name "hex:$(printf '%064d' 0 | od -An -v -tx1 | tr -d ' \n')"
checked 1 "point 1: its name has no end"
damage set point1.size 0xffffffffffff
checked 1 "point 1: bitmaps have no room for a disk of 281474976710655 bytes"
damage set point1.size 4194305
checked 1 'point "new": the disk had 4194304 bytes, and 4194305 at the older'
damage set point1.size 4194303
checked 1 'point 1 and snapshot "snap" have the same id, but not the same size'
damage set point1.name "hex:$(printf 'other' | od -An -tx1 | tr -d ' ')"
checked 1 'point 1 and snapshot "snap" have the same id, but not the same name'
damage set point1.uuid "hex:00112233445566778899aabbccddeeff"
checked 1 'point 1 and snapshot "snap" have the same id, but not the same uuid'
segment set "$shm" point1.sum 1
checked 1 "point 1: its checksum is wrong"
segment set "$shm" point1.state 4
checked 1 "point 1: it is in state 4, which has no meaning"
segment set "$shm" point77.state 1
checked 1 "point 77: its checksum is wrong"
segment set-changed "$shm" 1 64
checked 1 'point "snap": bit 64 of its changed bitmap is set, but it has only 64'
segment lose-changed "$shm" 1
checked 1 'point "snap": its changed bitmap is missing'

# What is no problem.
segment set-changed "$shm" 1 63
checked 0 "no problems found"
segment set "$shm" point2.state 3
checked 0 'note: point "new" was being dropped when the server ended'
segment set "$shm" point1.reason 9
segment set "$shm" point1.state 2
checked 0 'note: point "snap" is invalid for reason 9'
segment set "$shm" compat 0
checked 0 "note: the disk was served by a filter that does not mark changes"

# The host went down: entries may be torn, and the next id an old one.
reboot ()
{
    segment set "$shm" clean 0
    segment set "$shm" boot_id hex:00112233445566778899aabbccddeeff
}
reboot
checked 0 "note: the host went down without a clean shutdown of the server: the"
reboot
segment set "$shm" point1.sum 1
segment set "$shm" durable 1
checked 0 "note: point 1 was being made when the host went down"
reboot
segment set "$shm" durable 1
segment set "$shm" next_snapshot_id 3
checked 0 "no problems found"
not_in "$tmp/out" "will make the points invalid"

# What status says of them.
segment set "$shm" point1.sum 1
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "points     2 of at most 256, of which 2 are checkpoints, and 1 damaged: see cbwctl check"
expect_in "$tmp/text" "changed    unknown: $shm: is corrupt: point 1 is damaged"
cbwctl status "$shm" --json |
    json "j['damaged-points'] == 1 and
          [(p['name'], p['changed-bytes']) for p in j['points']] ==
          [('old', None), ('new', None)]"
cp "$tmp/good" "$shm"
segment set "$shm" point0.reason 2
segment set "$shm" point0.state 2
segment set "$shm" point2.state 3
cbwctl status "$shm" --json |
    json "[(p['name'], p['state'], p['reason'], p['changed-bytes'])
           for p in j['points']] ==
          [('old', 'invalid', 'the disk was changed while it was not served',
            None), ('snap', 'valid', None, 0)]"
cbwctl status "$shm" >"$tmp/text"
expect_in "$tmp/text" "old: checkpoint, invalid"
expect_in "$tmp/text" \
    "not known any more: the disk was changed while it was not served"
cbwctl_fails 1 'changes since "old" are not known any more' \
             map "$shm" old..snap
cp "$tmp/good" "$shm"
segment set "$shm" compat 0
cbwctl status "$shm" --json | json "{p['state'] for p in j['points']} ==
                                    {'invalid'}"
cbwctl_fails 1 'served by a filter that does not mark changes' \
             map "$shm" old..snap
