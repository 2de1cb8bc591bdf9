#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter says which file its disk is, if nbdkit's file plugin serves one
# with nothing between; and in all other cases, that it does not know.

. ./functions.sh
set -e

ask=$top_builddir/tests/direct-ask
plugindir=$("$NBDKIT" --dump-config | sed -n 's/^plugindir=//p')
filterdir=$("$NBDKIT" --dump-config | sed -n 's/^filterdir=//p')
random_file "$tmp/disk" 2000001
cd "$tmp"

# serve ARGS...: a server with these, and a snapshot.
serve ()
{
    rm -f "$shm" "$tmp/target" "$tmp/disk.log"
    start_nbdkit disk -v "$@" cbw-shm="$shm" cbw-target="$tmp/target"
}

# said TEXT: in the log, once.
said ()
{
    [ "$(grep -ac "cbw: clients may " "$tmp/disk.log")" = 1 ] ||
        fail "it was not said once whether clients may read the disk"
    expect_in "$tmp/disk.log" "$1"
}

# source_is FILE: clients are told of it, and can find it.
source_is ()
{
    "$ask" "$shm" snapshot >"$tmp/reply"
    expect_in "$tmp/reply" "pid $(server_pid disk)"
    read -r _ kind fd device inode rdev path < <(grep '^source' "$tmp/reply")
    [ "$kind $device $inode $rdev" = "1 $(stat -Lc '%d %i %r' "$1")" ] ||
        fail "the source is not $1: $(cat "$tmp/reply")"
    [ "/proc/$(server_pid disk)/fd/$fd" -ef "$1" ] ||
        fail "descriptor $fd is not $1"
    [ "$path" -ef "$1" ] || fail "$path is not $1"
    expect_in "$tmp/reply" "view snapshot $(blockdev --getsize64 "$1" 2>/dev/null ||
        stat -Lc %s "$1") 1 $(stat -c '%d %i %r' "$tmp/target") $tmp/target"
}

no_source ()
{
    "$ask" "$shm" snapshot >"$tmp/reply"
    expect_in "$tmp/reply" "error Operation not supported"
}

# known FILE ARGS...
known ()
{
    local file=$1
    shift
    serve "$@"
    said "cbw: clients may read $(realpath "$file") themselves"
    source_is "$file"
    stop_server disk
}

# unknown REASON ARGS...
unknown ()
{
    local reason=$1
    shift
    serve "$@"
    said "cbw: clients may not read the disk themselves: $reason"
    no_source
    stop_server disk
}

ours=--filter=$filter

# ---- Known ----
known disk $ours file disk
known disk $ours -r file disk
known disk $ours file disk cbw-direct=auto
ln -s disk link
known disk $ours file link
: >empty
known empty $ours file empty
printf x >tiny
known tiny $ours file tiny

# What is above changes nothing.
known disk --filter=log --filter=offset $ours file disk offset=4096 \
      logfile=log
known disk --filter=noparallel $ours file disk serialize=requests
cp "$filterdir/nbdkit-offset-filter.so" x.so
known disk --filter=./x.so $ours file disk offset=4096

# By their paths, which lead nowhere once the server is in the background.
cp "$filter" ours.so
cp "$plugindir/nbdkit-file-plugin.so" .
known disk --filter=./ours.so ./nbdkit-file-plugin.so disk
background ()
{
    rm -f "$shm" "$tmp/target" pid back.sock
    eval "$(nbdkit_command) -P pid -U '$tmp/back.sock' \"\$@\" \
          cbw-shm='$shm' cbw-target='$tmp/target'"
    wait_for 30 test -s pid || fail "the server did not start"
    pid_disk=$(cat pid)
}
stop_background ()
{
    kill "$pid_disk"
    wait_for 60 server_dead disk || fail "the server does not end"
}
at_exit 'kill $(cat "$tmp/pid") 2>/dev/null || :'
background --filter=./ours.so ./nbdkit-file-plugin.so disk
source_is disk
stop_background
background --filter=./ours.so --filter=./x.so ./nbdkit-file-plugin.so disk
no_source
stop_background

# Another plugin of that name that serves the file as it is; others do not.
mkdir -p other
cp "$plugindir/nbdkit-split-plugin.so" other/nbdkit-file-plugin.so
known disk $ours other/nbdkit-file-plugin.so file=disk
unknown "the plugin has opened 2 descriptors, and not one" \
        $ours other/nbdkit-file-plugin.so file=disk file=tiny
cp "$plugindir/nbdkit-memory-plugin.so" other/nbdkit-file-plugin.so
unknown "the plugin has opened 0 descriptors, and not one" \
        $ours other/nbdkit-file-plugin.so size=1M
cp "$top_builddir/tests/.libs/other-plugin.so" other/nbdkit-file-plugin.so
unknown "the disk is not what is in the file at offset 1998848" \
        $ours other/nbdkit-file-plugin.so file="$tmp/disk" do=last
unknown "the file that the plugin has opened has 2000001 bytes, and the disk 2000000" \
        $ours other/nbdkit-file-plugin.so file="$tmp/disk" do=less

if loop=$(losetup -f --show disk 2>/dev/null); then
    at_exit "losetup -d $loop"
    known "$loop" $ours file "$loop"
fi

# A descriptor that was inherited, where the plugin can have one (1.34).
exec 9<>disk
if [[ $("$NBDKIT" --help file) = *fd=* ]]; then
    known disk $ours file fd=9
fi
exec 9>&-

# ---- Not known ----
between ()
{
    unknown "the filter $1 is between this one and the plugin" "${@:2}"
}
for f in log cow cache readahead; do
    between "$filterdir/nbdkit-$f-filter.so" $ours --filter=$f file disk \
            $([ $f != log ] || echo logfile=log)
done
between "$filterdir/nbdkit-offset-filter.so" \
        --filter=log $ours --filter=offset file disk offset=0 logfile=log
between "./x.so" $ours --filter=./x.so file disk
between "./x.so" --filter=log $ours --filter=./x.so file disk logfile=log
if command -v sfdisk >/dev/null; then
    cp disk parted
    printf 'label: dos\nstart=64\n' | sfdisk -q parted
    between "$filterdir/nbdkit-partition-filter.so" \
            $ours --filter=partition file parted partition=1
fi
plugin ()
{
    unknown "the plugin is not nbdkit's \"file\", but $plugindir/nbdkit-$1-plugin.so" \
            $ours "$@"
}
plugin memory 1M
plugin split disk
plugin partitioning disk
if command -v qemu-nbd >/dev/null; then
    plugin nbd command=qemu-nbd arg=-f arg=raw arg="$tmp/disk"
fi
cp "$plugindir/nbdkit-file-plugin.so" y.so
unknown 'the plugin is not nbdkit'\''s "file", but ./y.so' $ours ./y.so disk
unknown "cbw-direct=off" $ours file disk cbw-direct=off

# With an export's name the disk is read through a connection.
serve $ours file dir="$tmp" cbw-export=disk
nbdinfo "nbd+unix:///disk?socket=$tmp/disk.sock" >/dev/null
nbdsh -u "nbd+unix:///disk?socket=$tmp/disk.sock" -c 'h.pread (512, 0)'
said "cbw: clients may not read the disk themselves: cbw-export= reads it"
no_source
stop_server disk

# ---- Another file comes in its place ----
serve $ours file disk
ln disk was
random_file new 2000001
mv new disk
"$ask" "$shm" snapshot >reply
expect_in reply " $(stat -c '%d %i %r' was) "
cbwctl create "$shm" second --target="$tmp/second" >/dev/null
"$ask" "$shm" second >reply
expect_in reply " $(stat -c '%d %i %r' was) "

# ... and is larger: the disk is in that one now, for whoever opens it.
before=$(segment get "$shm" chain_generation)
random_file new 3000000
mv new disk
cbwctl create "$shm" third --target="$tmp/third" >/dev/null
expect_in disk.log "cbw: clients may not read the disk themselves: the disk has grown"
for name in snapshot third; do
    "$ask" "$shm" $name >reply
    expect_in reply "error Operation not supported"
done
# A snapshot adds 2 when its entry is reserved, 2 for its point, and 2 when it
# is live.
[ "$(segment get "$shm" chain_generation)" = $(( before + 8 )) ] ||
    fail "clients that know of the file are not told"
stop_server disk
rm second third

# The file itself grows, while a guest is connected: it is the one.
serve $ours file disk
nbdsh -u "$disk" -c 'import os, time
open ("connected", "w")
while not os.path.exists ("grown"): time.sleep (0.02)' &
guest=$!
wait_for 30 test -e connected || fail "no guest"
truncate -s 4M disk
cbwctl create "$shm" larger >/dev/null
"$ask" "$shm" larger >reply
expect_in reply " $(stat -c '%d %i %r' disk) $tmp/disk"
expect_in reply "view larger 4194304 "
source_inode=$(stat -c %i disk)
"$ask" "$shm" snapshot >reply
grep -q "^source .* $source_inode " reply || fail "it is not known any more"
touch grown
wait $guest || fail "the guest failed"
