#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Stress, with copies that fail or are late at random.  Under
# break-guest-write guests' writes may fail, and then have changed nothing,
# and the view never does; under break-snapshot no write fails, and the view
# returns the old data or EIO.
set -e
. ./functions.sh
. "$top_srcdir/tests/stress.sh"

target_faults "$tmp/target"
trouble ()
{
    while [ ! -e "$tmp/stop" ]; do
        random 1000
        local from=$(( dice * 16384 ))
        random 5
        case $dice in
            0) target_fault errno 5 $from ;;
            1) target_fault errno 28 ;;
            2) target_fault sleep 0.02 ;;
            3) target_fault sleep 0.3 $from ;;
            *) target_fault none ;;
        esac
        nap
    done
}

# round POLICY PARAMETERS...
round ()
{
    local policy=$1
    shift
    rm -f "$shm" "$tmp/target" "$tmp/stop" "$tmp/disk.img"
    make_disk 20000000
    target_fault none
    start_disk file "$tmp/disk.img" cbw-shm="$shm" cbw-target="$tmp/target" \
               cbw-on-error=$policy cbw-timeout=0.1 "$@"
    start_snap "$shm"
    trouble &
    trouble=$!
    case $policy in
        break-snapshot)
            "$stress" run disk="$disk" snap="$snap" size="$size" seed="$seed" \
                      seconds=1 view_errors=1 backups="$shm" ;;
        *)
            "$stress" run disk="$disk" snap="$snap" size="$size" seed="$seed" \
                      seconds="$seconds" guest_errors=1 backups="$shm" ;;
    esac
    : >"$tmp/stop"
    wait $trouble
    target_fault none
    [ $policy = break-snapshot ] || check_copy
    "$stress" idle "$shm"
    cbwctl check "$shm" >"$tmp/check" || { cat "$tmp/check"; fail check; }
    stop_server snap
    stop_server disk
    seed=$(( seed + 1 ))
}

round break-guest-write
round break-guest-write cbw-cluster-size=4k
round break-guest-write cbw-quota=8M cbw-full=stall:0.05
for i in 1 2; do round break-snapshot; done
for i in 1 2; do round break-snapshot cbw-writeback=1M; done
