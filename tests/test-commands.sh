#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A command as target is run if the command line has it: as cbw-target=, or
# with cbw-commands=on any.  Otherwise clients may not name one, and the
# server does not take over a segment that has one.  The segment's mode, and
# whose it is, say nothing.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
command="[ $NBDKIT --exit-with-parent memory 1M ]"
touch="[ touch $tmp/ran ]"
segment_has ()
{
    cbwctl status "$shm" --json |
        json "[(s['name'], s['state']) for s in j['snapshots']] == $1"
}

# -- Clients
for off in "" cbw-commands=off; do
    start_disk file "$tmp/disk" cbw-shm="$shm" $off
    for what in "create --target=$touch" "backup --to=$touch"; do
        cbwctl_fails 1 "unless it was started with cbw-commands=on" \
                     "${what%% *}" "$shm" s "${what#* }"
    done
    refused "$plugin" "$shm" create=true target="$touch"
    expect_in "$tmp/refused.log" "unless it was started with cbw-commands=on"
    absent "$tmp/ran"
    segment_has "[]"
    stop_server disk
done
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-commands=on
cbwctl create "$shm" named --target="$command" >/dev/null
segment_has "[('named', 'live')]"

# -- Takeover: of what a client named
stop_server disk
text="the target of its snapshot \"named\" is a command"
for more in "" cbw-commands=off cbw-target="$tmp/target"; do
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" ${more:+"$more"}
    expect_in "$tmp/refused.log" "$text, which is run only if the command line"
    expect_in "$tmp/refused.log" "give cbw-commands=on"
    expect_in "$tmp/refused.log" "cbw-target=$command"
    absent "$tmp/target"
done
# "named" has another target than this; to be run, it must be the very one.
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" \
        cbw-snapshot=named cbw-target="$touch"
expect_in "$tmp/refused.log" "$text"
absent "$tmp/ran"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-snapshot=named \
           cbw-target="$command"
segment_has "[('named', 'live')]"
# And that does not let clients name it.
cbwctl_fails 1 "cbw-commands=on" create "$shm" s --target="$command"
stop_server disk
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-commands=on
segment_has "[('named', 'live')]"
cbwctl drop "$shm" named >/dev/null
stop_server disk

# -- Of what somebody wrote there
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-snapshot=named \
           cbw-target="$command"
stop_server disk
"$PYTHON" - "$shm" "$touch" "$command" <<'PY'
import sys
path, touch, command = sys.argv[1:]
data = open (path, "rb").read ()
at = data.index (command.encode () + b"\0")
with open (path, "r+b") as f:
    f.seek (at)
    f.write (touch.encode ().ljust (1024, b"\0"))
PY
segment resum-entry "$shm"
refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm" \
        cbw-snapshot=named cbw-target="$command"
expect_in "$tmp/refused.log" "$text"
absent "$tmp/ran"

refused --filter="$filter" file "$tmp/disk" cbw-shm="$tmp/x" cbw-commands=maybe
expect_in "$tmp/refused.log" "cbw-commands=maybe: must be on or off"
