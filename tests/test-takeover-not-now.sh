#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A target cannot be opened for a reason that may pass: the server does not
# start, says why and what to do, and the snapshot is whole when it does.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
small_tmpfs 4m
mkdir "$tmp/dir" "$tmp/small/dir"

# begin TARGET: a snapshot in it, of which some is there only.
begin ()
{
    rm -f "$shm"
    cp "$tmp/original" "$tmp/disk"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$1"
    guest <<PY
h.pwrite (b"1" * 200000, 0)
PY
    stop_server disk
}
# refuses TEXT: and breaks nothing.
refuses ()
{
    refused --filter="$filter" file "$tmp/disk" cbw-shm="$shm"
    expect_in "$tmp/refused.log" "$1"
    expect_in "$tmp/refused.log" 'Snapshot "snapshot" would be lost'
    expect_in "$tmp/refused.log" "end all snapshots by removing $shm"
    cbwctl status "$shm" --json |
        json "j['snapshots'][0]['state'] == 'live'"
}
is_whole ()
{
    start_disk file "$tmp/disk" cbw-shm="$shm"
    start_snap "$shm"
    view_is "$tmp/original"
    stop_server snap
    cbwctl drop "$shm" snapshot >/dev/null
    stop_server disk
}

# Its directory was moved away.
begin "$tmp/dir/target"
mv "$tmp/dir" "$tmp/elsewhere"
refuses "$tmp/dir: No such file or directory"
mv "$tmp/elsewhere" "$tmp/dir"

# Others may open it, or it has another name, or is behind a link.
chmod 644 "$tmp/dir/target"
refuses "other users may open it (mode 644)"
chmod 600 "$tmp/dir/target"
ln "$tmp/dir/target" "$tmp/dir/hard"
refuses "has 2 names"
rm "$tmp/dir/target"
ln -s hard "$tmp/dir/target"
refuses "is a symbolic link"
mv "$tmp/dir/hard" "$tmp/dir/target"

# A program has it open, and may write to it.
exec 5<>"$tmp/dir/target"
refuses "$tmp/dir/target: is open for writing in"
exec 5<&-
# A program that reads the target, as clients do, does not keep the server from
# starting.
exec 5<"$tmp/dir/target"
start_disk file "$tmp/disk" cbw-shm="$shm"
stop_server disk
exec 5<&-

# Too few files may be open: wherever that strikes, nothing is broken.  (A
# sanitizer wants to open some, too.)
limits=$([ "$SANITIZERS" != no ] || seq 5 40)
for n in $limits; do
    ( ulimit -n $n
      eval "timeout -k 5 30 $(nbdkit_command) -U - --filter='$filter' \
            file '$tmp/disk' cbw-shm='$shm' --run true" \
            >>"$tmp/few.log" 2>&1 ) || :
    cbwctl status "$shm" --json |
        json "j['snapshots'][0]['state'] == 'live'"
done
[ -z "$limits" ] ||
    expect_in "$tmp/few.log" "$tmp/dir/target: cannot open the target: Too many"
is_whole

# Its file system is not mounted; with a directory of that name, and without.
for target in "$tmp/small/target" "$tmp/small/dir/target"; do
    begin "$target"
    mount --bind "$tmp/dir" "$tmp/small"
    case $target in
        */dir/*) refuses "$tmp/small/dir: No such file or directory" ;;
        *) refuses "is that not mounted?" ;;
    esac
    umount "$tmp/small"
    is_whole
done

# What nobody needs any more is no reason not to start: broken already.
begin "$tmp/dir/target"
rm "$tmp/dir/target"
start_disk file "$tmp/disk" cbw-shm="$shm"
stop_server disk
expect_in "$tmp/disk.log" 'snapshot "snapshot" is broken'
rmdir "$tmp/dir"
start_disk file "$tmp/disk" cbw-shm="$shm"
