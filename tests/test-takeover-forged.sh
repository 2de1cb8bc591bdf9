#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# An entry of the segment that was forged names another file: a server that
# takes over neither removes nor changes it, unless it is one that the server
# would have made itself.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
cp "$tmp/disk" "$tmp/original"
hidden=4 reserved=1

# forge STATE FILE: entry 0 names it, with its identity and a right sum.
forge ()
{
    rm -f "$shm" "$tmp/target"
    start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target"
    stop_server disk
    segment set "$shm" entry.state "$1"
    segment set "$shm" entry.target \
            "hex:$(printf %s "$2" | od -An -tx1 -v | tr -d ' \n')00"
    segment set "$shm" entry.target_created 1
    segment set "$shm" entry.target_device "$(stat -c %d "$2")"
    segment set "$shm" entry.target_inode "$(stat -c %i "$2")"
    segment resum-entry "$shm"
}
# survives STATE FILE: a start, and an end.
survives ()
{
    local before=$(stat -c '%i %s %h' "$2")
    forge "$1" "$2"
    start_disk file "$tmp/disk" cbw-shm="$shm"
    cbwctl status "$shm" --json | json "j['snapshots'] == []"
    stop_server disk
    [ "$(stat -c '%i %s %h' "$2" 2>&1)" = "$before" ] ||
        fail "$2 was removed or changed"
}

# The disk, which is in use.
survives $hidden "$tmp/disk"
survives $reserved "$tmp/disk"
same "$tmp/disk" "$tmp/original"

# What others may open, or what has another name.
truncate -s 1M "$tmp/file"
chmod 644 "$tmp/file"
survives $hidden "$tmp/file"
survives $reserved "$tmp/file"
chmod 600 "$tmp/file"
ln "$tmp/file" "$tmp/link"
survives $hidden "$tmp/file"
survives $reserved "$tmp/file"
rm "$tmp/link"
if [ "$(id -u)" = 0 ]; then
    chown 1 "$tmp/file"
    survives $hidden "$tmp/file"
    survives $reserved "$tmp/file"
    chown 0 "$tmp/file"
fi

# What another program has open, but for a target that is read only.
exec 5<>"$tmp/file"
survives $hidden "$tmp/file"
survives $reserved "$tmp/file"
exec 5<&-
exec 5<"$tmp/file"
survives $reserved "$tmp/file"
exec 5<&-

# Of a reservation: what holds data.
cp "$tmp/original" "$tmp/data"
chmod 600 "$tmp/data"
survives $reserved "$tmp/data"
same "$tmp/data" "$tmp/original"

# A program that has the file open when it is removed can still read it.
cp "$tmp/original" "$tmp/read"
chmod 600 "$tmp/read"
exec 5<"$tmp/read"
forge $hidden "$tmp/read"
start_disk file "$tmp/disk" cbw-shm="$shm"
stop_server disk
absent "$tmp/read"
same "/proc/$$/fd/5" "$tmp/original"
exec 5<&-

# What it would have made itself goes, as ever.
for state in $hidden $reserved; do
    truncate -s 1M "$tmp/file"
    forge $state "$tmp/file"
    start_disk file "$tmp/disk" cbw-shm="$shm"
    stop_server disk
    absent "$tmp/file"
    truncate -s 1M "$tmp/file"
    chmod 600 "$tmp/file"
done
