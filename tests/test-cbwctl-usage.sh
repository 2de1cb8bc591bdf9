#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl's command line: help and version with status 0, wrong usage with 2
# and a hint, output that cannot be written with 1.

. ./functions.sh
set -e

cbwctl --version >"$tmp/out"
grep -q '^cbwctl [0-9][0-9.]*$' "$tmp/out" || fail "--version"
cbwctl --help >"$tmp/out"
for command in create checkpoint drop status map check; do
    grep -q "^  $command " "$tmp/out" || fail "--help does not list $command"
    cbwctl $command --help >"$tmp/help"
    expect_in "$tmp/help" "Usage: cbwctl $command SEGMENT"
    cbwctl_fails 2 "Try \"cbwctl $command --help\"" $command
    expect_in "$tmp/refused.log" "cbwctl $command: expected a segment"
    cbwctl_fails 2 "unrecognized option '--frobnicate'" $command --frobnicate
    expect_in "$tmp/refused.log" "Try \"cbwctl $command --help\""
    [ $command = drop ] ||
        cbwctl_fails 2 "too many arguments" $command a b c
done
cbwctl_fails 2 'Try "cbwctl --help"'
cbwctl_fails 2 'there is no command "frobnicate"' frobnicate
cbwctl_fails 2 'there is no command "--frobnicate"' --frobnicate
cbwctl_fails 2 "requires an argument" create x y --target
cbwctl_fails 2 "go with --watch" status x --count=1
cbwctl_fails 2 "must be a number" status x --watch --count=-1
cbwctl_fails 2 "must be a number" status x --watch --count=0
cbwctl_fails 2 "must be a number" status x --watch --interval=often
cbwctl_fails 2 "must be a number" status x --watch --interval=0
cbwctl_fails 2 "must be more than 0" checkpoint x y --hold-timeout=0
cbwctl_fails 2 "choose one of" map x y --plain --json

if [ -e /dev/full ]; then
    rc=0
    cbwctl --help >/dev/full 2>"$tmp/err" || rc=$?
    [ $rc -eq 1 ] || fail "status $rc with a full disk"
    expect_in "$tmp/err" "cannot write the output: No space left on device"
fi
