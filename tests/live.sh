# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests whose program starts and kills the servers itself
# (live-env.h), after functions.sh.
#
# CBW_STRESS_SECONDS makes each run last longer; CBW_STRESS_SEED makes
# another run of it.

# run_file NAME ARGS...: how server NAME is started; with $preload
# loaded into it.
preload=
run_file ()
{
    local name=$1 arg args= env=
    shift
    # shellcheck disable=SC2086
    [ "$name" != disk ] || set -- "$@" $writeback
    # shellcheck disable=SC2046
    set -- "$@" $(direct_parameter "$@")
    for arg; do args="$args '$arg'"; done
    if [ "$preload" ]; then
        env="env CBW_FAULT='$tmp/fault' "
    fi
    { echo "#!/bin/sh"
      echo "exec $env$(nbdkit_command) -f -U '$tmp/$name.sock'$args"
    } >"$tmp/run-$name"
    chmod +x "$tmp/run-$name"
}

# live PROGRAM ARGS...
live ()
{
    local program=$PWD/$1
    shift
    "$program" dir="$tmp" seed="${CBW_STRESS_SEED:-1}" \
               seconds="${CBW_STRESS_SECONDS:-0}" "$@" ||
        fail "$(basename "$program") failed"
    # Who is killed has no exit status to tell it.
    not_in "$tmp/disk.log" Sanitizer
    if [ -e "$tmp/snap.log" ]; then not_in "$tmp/snap.log" Sanitizer; fi
}
