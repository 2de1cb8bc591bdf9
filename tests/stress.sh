# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the stress tests, after functions.sh.
#
# CBW_STRESS_SECONDS makes each run last longer; CBW_STRESS_SEED makes
# another run of it.

stress=$PWD/stress-driver
# Backups come and go, so the newest is not always the one that is meant.
snap="nbd+unix:///snapshot?socket=$tmp/snap.sock"
seed=${CBW_STRESS_SEED:-1}
seconds=${CBW_STRESS_SECONDS:-2}
kills=$(( 4 * seconds ))
# Servers take their time to start there.
[ -z "${CBW_VALGRIND:-}" ] || kills=$seconds

# make_disk SIZE: $tmp/disk.img as it is when the snapshot is taken; $size
# and $sum (its checksum) are set.
make_disk ()
{
    size=$1
    "$stress" make "$tmp/disk.img" size="$size" seed="$seed"
    sum=$(checksum "$tmp/disk.img")
}

# The view as a whole must be what the disk was.
check_copy ()
{
    test "$(checksum "$snap")" = "$sum" || fail "a copy of the view is wrong"
}

# run_stress PARAMETERS...: with a copy of the view made meanwhile, and
# one afterwards.
run_stress ()
{
    check_copy &
    copy=$!
    "$stress" run disk="$disk" snap="$snap" size="$size" seed="$seed" \
              seconds="$seconds" backups="$shm" "$@"
    wait $copy || fail "during the stress"
    check_copy
    "$stress" idle "$shm"
}

# start_stress PARAMETERS...: in the background, through whatever happens to
# the servers; stress_continues fails if it has ended, and end_stress ends it
# and looks at the snapshot.
start_stress ()
{
    "$stress" run disk="$disk" snap="$snap" size="$size" seed="$seed" \
              reconnect=1 until="$tmp/stop" backups="$shm" "$@" >"$tmp/stress.log" 2>&1 &
    run=$!
}

stress_continues ()
{
    kill -0 $run 2>/dev/null || stress_failed
}

stress_failed ()
{
    cat "$tmp/stress.log" >&2
    cbwctl status "$shm" >&2 || :
    fail "during the stress"
}

# stress_through COMMAND...: run it $kills times while that lasts.
stress_through ()
{
    while [ $kills -gt 0 ]; do
        nap
        "$@"
        stress_continues
        kills=$(( kills - 1 ))
    done
    end_stress
}

end_stress ()
{
    touch "$tmp/stop"
    wait $run || stress_failed
    cat "$tmp/stress.log"
    check_copy
    "$stress" idle "$shm"
}

# random MAX: a number below that in $dice, the same sequence for the same
# seed.
random=$seed
random ()
{
    random=$(( (random * 1103515245 + 12345) & 0x7fffffff ))
    dice=$(( random / 65536 % $1 ))
}
