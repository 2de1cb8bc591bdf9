#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A snapshot of nbdkit-memory-plugin's disk, each of its allocators.  Its
# data is gone with the server, so the snapshot is of a disk of zeroes
# first; then the disk is nbdkit-data-plugin's.

. ./functions.sh
set -e

truncate -s 2M "$tmp/original"
start_disk memory 2M cbw-shm="$shm" cbw-target="$tmp/target"
scenario "$tmp/original"
stop_server disk

rm "$shm" "$tmp/target"
{ head -c 600000 /dev/zero
  head -c 600000 /dev/zero | tr '\0' 'x'; } >"$tmp/original"
start_disk data ' @600000 ( 0x78 )*600000 ' \
           cbw-shm="$shm" cbw-target="$tmp/target"
scenario "$tmp/original"
