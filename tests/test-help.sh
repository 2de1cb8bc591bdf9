#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdkit --help names every parameter of filter and plugin, and
# --dump-plugin tells programs what the plugin is.

. ./functions.sh
set -e

eval "$(nbdkit_command) --help --filter='$filter' null" >"$tmp/filter"
for p in shm target snapshot cluster-size on-error threads export; do
    expect_in "$tmp/filter" "cbw-$p="
done
expect_in "$tmp/filter" "(default: 4k, for"
expect_in "$tmp/filter" "copy-before-write"
expect_in "$tmp/filter" "nbdkit-snapshot-access-plugin"

eval "$(nbdkit_command) --help '$plugin'" >"$tmp/plugin"
for p in shm qcow2 snapshot wait timeout; do
    expect_in "$tmp/plugin" "$p"
done
expect_in "$tmp/plugin" "cbw-shm="
expect_in "$tmp/plugin" "nbdkit-cbw-filter"

# What --help says fits a terminal.
for f in filter plugin; do
    sed -n "/^$f: /,\$p" "$tmp/$f" | grep '^[a-z[]*[-a-z]*=' |
        { ! grep '.\{80,\}'; } || fail "lines of more than 79 columns"
done

eval "$(nbdkit_command) --dump-plugin '$plugin'" >"$tmp/dump"
for line in name=snapshot-access magic_config_key=shm \
            max_thread_model=parallel segment_version=4 \
            segment_max_snapshots=64 segment_max_clients=64 qcow2=yes; do
    grep -qx "$line" "$tmp/dump" || fail "--dump-plugin: $line"
done
grep -qx "version=[0-9.]*" "$tmp/dump" || fail "--dump-plugin: version"
