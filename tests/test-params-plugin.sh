#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The plugin's parameters: a bad one is refused with a clear message, a
# good one does what it says.

. ./functions.sh
set -e

# bad TEXT ARGS...
bad ()
{
    local text=$1
    shift
    refused "$plugin" "$@"
    expect_in "$tmp/refused.log" "$text"
    absent "$shm"
}

bad "the segment is missing"
bad "the segment is missing" wait=0
bad '"" is not a name for a segment' shm=
bad '".." is not a name for a segment' ..
bad "wait=soon: must be a number of seconds" "$shm" wait=soon
bad "wait=-1: must be a number of seconds" "$shm" wait=-1
bad "wait=nan: must be a number of seconds" "$shm" wait=nan
bad "wait=: must be a number of seconds" "$shm" wait=
bad "timeout=1m: must be a number of seconds" "$shm" timeout=1m
bad "timeout=-0.5: must be a number of seconds" "$shm" timeout=-0.5
bad "snapshot: a snapshot's name cannot be empty" "$shm" snapshot=
bad "a snapshot's name cannot contain the character 0x2f" "$shm" snapshot=a/b
bad 'snapshot name "../x" contains ".."' "$shm" snapshot=../x
bad "longer than 63 bytes" "$shm" snapshot="$(printf 'n%.0s' $(seq 64))"
bad "unknown parameter cluster-size" "$shm" cluster-size=4k

# An image instead of a segment.
image=qcow2=$tmp/disk.qcow2
bad "a segment (shm=) and qcow2= cannot be served together" "$image" "$shm"
for param in create=true target=x discard=true wait=1 timeout=1; do
    bad "${param%=*}= goes with a segment (shm=), not with qcow2=" \
        "$image" "$param"
    bad "${param%=*}= goes with a segment (shm=), not with qcow2=" \
        "$param" "$image"
done
bad "the name or the id of a snapshot is missing" "$image" snapshot=
if command -v qemu-nbd >/dev/null; then
    bad "$tmp/disk.qcow2: cannot open: No such file" "$image" snapshot=a/b
fi

# wait= is how long it waits for a segment that is not there.
start=$(date +%s%N)
bad "$shm: there is no such segment; start nbdkit --filter=cbw with cbw-shm=$shm" \
    "$shm" wait=0
ms=$(( ($(date +%s%N) - start) / 1000000 ))
[ $ms -lt 2000 ] || fail "wait=0 took $ms ms"
start=$(date +%s%N)
bad "$shm: there is no such segment" "$shm" wait=1.5
ms=$(( ($(date +%s%N) - start) / 1000000 ))
[ $ms -ge 1500 ] && [ $ms -lt 4500 ] || fail "wait=1.5 took $ms ms"

# A segment without a server is not waited for longer, and is not touched.
random_file "$tmp/disk" 1M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
stop_server disk
sum=$(checksum "$shm")
refused "$plugin" "$shm" wait=0.1
expect_in "$tmp/refused.log" "$shm: no server has this segment"
[ "$(checksum "$shm")" = "$sum" ] || fail "the segment was changed"
rm "$shm" "$tmp/target"

# The plugin started first works once the filter is there.
launch_server snap bash -c 'eval "$0" -f -U "$1" "$2" "$3" wait=60' \
              "exec $(nbdkit_command)" "$tmp/snap.sock" "$plugin" "$shm"
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-snapshot=monday
up () { nbdinfo --size "$snap" >/dev/null 2>&1; }
wait_for 30 up || fail "the plugin started first does not work"
view_is "$tmp/disk"

# The default export, and by name.
view_is "$tmp/disk" "nbd+unix:///monday?socket=$tmp/snap.sock"
stop_server snap

# snapshot= is what the default export means, wherever it is given.
start_snap shm="$shm" snapshot=monday wait=0 timeout=0.5
view_is "$tmp/disk"
stop_server snap
start_snap "$shm" snapshot=tuesday
if nbdinfo "$snap" >/dev/null 2>&1; then
    fail "there is no snapshot tuesday"
fi
expect_in "$tmp/snap.log" "$shm: there is no snapshot \"tuesday\""
view_is "$tmp/disk" "nbd+unix:///monday?socket=$tmp/snap.sock"
