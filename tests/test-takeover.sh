#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter ends, in good order or by SIGKILL in the middle of writes, and
# is started again on its segment, with the same arguments or without
# cbw-target=: the snapshot is whole, for old readers and for new ones, and
# the writes after it are preserved for too.

. ./functions.sh
set -e

random_file "$tmp/original" 6M
cp "$tmp/original" "$tmp/disk"
args=(cbw-shm="$shm" cbw-target="$tmp/target")

# Writes at random, until the server is gone if asked to.
# write_some SEED until-killed|N
write_some ()
{
    guest <<PY
import random
random.seed ($1)
limit = 10 ** 9 if "$2" == "until-killed" else int ("$2")
try:
    for i in range (limit):
        n = random.randrange (1, 200000)
        offset = random.randrange (h.get_size () - n)
        if random.randrange (4):
            h.pwrite (bytes ([random.randrange (256)]) * n, offset)
        else:
            h.zero (n, offset)
        if i == 10:
            open ("$tmp/writing", "w").close ()
except nbd.Error:
    assert "$2" == "until-killed"
PY
}

start_disk file "$tmp/disk" "${args[@]}"
start_snap "$shm"
write_some 1 10
view_is "$tmp/original"
uuid=$(nbdinfo --list "$snap" | sed -n 's/.*description: //p')

seed=2
for end in TERM KILL KILL; do
    for how in same without; do
        if [ $end = TERM ]; then
            stop_server disk
        else
            rm -f "$tmp/writing"
            write_some $seed until-killed &
            writer=$!
            wait_for 30 test -e "$tmp/writing" ||
                fail "the writer did not start"
            kill_server disk KILL
            wait $writer || fail "the writer"
        fi
        seed=$((seed + 1))

        if [ $how = same ]; then
            start_disk file "$tmp/disk" "${args[@]}"
        else
            start_disk file "$tmp/disk" cbw-shm="$shm"
        fi
        view_is "$tmp/original"         # the plugin was there all the time
        write_some $seed 10
        view_is "$tmp/original"
        [ "$uuid" = "$(nbdinfo --list "$snap" |
                           sed -n 's/.*description: //p')" ] ||
            fail "it is another snapshot"
    done
done

# A new reader.
stop_server snap
start_snap "$shm"
view_is "$tmp/original"
write_some 99 10
view_is "$tmp/original"
[ "$(segment get "$shm" generation)" = 7 ] || fail "generation"
! cmp -s "$tmp/disk" "$tmp/original" || fail "nothing was written"
