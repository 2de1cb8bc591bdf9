#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A direct read that is stopped at any of its steps, while anything happens,
# gives the snapshot's bytes when it continues, or an error.

. ./functions.sh
set -e

size=$(( 1024 * 1024 ))
preload_direct=$top_builddir/tests/.libs/direct-preload.so
export CBW_DIRECT_HOLD=$tmp/hold CBW_SOURCE=$tmp/disk

say ()
{
    echo "$*" >"$tmp/hold.new"
    mv "$tmp/hold.new" "$tmp/hold"
}

start_filter ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
}

overwrite_all ()
{
    guest <<PY
import os
for i in range (4):
    h.pwrite (os.urandom ($size // 4), i * $size // 4)
h.flush ()
PY
}

# What happens while the read is stopped.
happen_create ()
{
    cbwctl create "$shm" newer --target="$tmp/newer" >/dev/null
    overwrite_all
}
happen_drop ()
{
    cbwctl drop "$shm" snapshot >/dev/null
    overwrite_all
    cbwctl create "$shm" snapshot --target="$tmp/target" >/dev/null
    overwrite_all
}
happen_hide ()
{
    cbwctl drop "$shm" newest >/dev/null
    overwrite_all
}
happen_death ()
{
    kill_server disk KILL
    random_file "$tmp/disk" $size # nothing protects it any more
}
happen_restart ()
{
    kill_server disk KILL
    start_filter
    overwrite_all
}
happen_stop ()
{
    stop_server disk
    random_file "$tmp/disk" $size
}
happen_discard ()
{
    nbdsh -u "nbd+unix:///snapshot?socket=$tmp/trim.sock" -c "h.trim ($size, 0)"
    overwrite_all
}
happen_truncate ()
{
    truncate -s 0 "$tmp/target"
    truncate -s $(( size - 1 )) "$tmp/target"
}

# Reads it all in one request; what must it be?
read_all ()
{
    nbdsh -u "nbd+unix:///snapshot?socket=$tmp/snap.sock" -c - <<PY
try:
    got = h.pread (256 * 1024, 0)
except nbd.Error as e:
    print ("error", e.errnum)
else:
    old = open ("$tmp/old", "rb").read (256 * 1024)
    print ("old" if got == old else "WRONG")
PY
}

# one WHAT STEP EXPECTED...
one ()
{
    local what=$1 step=$2 result
    shift 2
    random_file "$tmp/disk" $size
    rm -f "$tmp"/target* "$tmp"/newer* "$shm" "$tmp/hold.reached"
    say none
    start_filter
    cbwctl create "$shm" snapshot --target="$tmp/target" >/dev/null
    cp "$tmp/disk" "$tmp/old"
    # Of the first 256 KiB half is in the target, half in the source.
    guest <<<"h.pwrite (b'1' * 65536, 0); h.pwrite (b'1' * 65536, 131072)"
    [ "$what" != hide ] ||
        cbwctl create "$shm" newest --target="$tmp/newer" >/dev/null
    preload=$preload_direct
    start_snap "$shm" direct=auto
    preload=
    [ "$what" != discard ] ||
        start_nbdkit trim "$plugin" "$shm" discard=true direct=off
    [ "$(read_all)" = old ] || fail "the first read"
    cbwctl status "$shm" --json >"$tmp/json"
    segment direct "$shm" | grep -q . || fail "it was not read directly"

    say "hold $step"
    read_all >"$tmp/result" &
    reader=$!
    wait_for 20 test -e "$tmp/hold.reached" || fail "$step is never reached"
    "happen_$what"
    say none
    wait $reader
    result=$(cat "$tmp/result")
    case " $* " in
        *" ${result%% *} "*) ;;
        *) fail "$what at $step: $result" ;;
    esac

    for server in $servers; do kill_server "$server" KILL; done
}

for step in source-before source-after target-before target-after \
            verify-before verify-after; do
    one create "$step" old
    one hide "$step" old
    one restart "$step" old error # ESHUTDOWN while there is no filter
    one drop "$step" error
    one death "$step" error
    one stop "$step" error
    one discard "$step" error
done
one truncate target-before error
one truncate verify-before old error # the length was looked at before
