#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A plugin that lives elsewhere than the filter, in another namespace or as
# a user who may not look into the filter's process, reads the same bytes:
# never another file that has the name of the disk or of the target there.

. ./functions.sh
set -e
requires nbdcopy unshare setpriv

unshare --pid --fork --kill-child --mount --mount-proc true 2>/dev/null ||
    skip "no namespaces here"

random_file "$tmp/disk" 1M
random_file "$tmp/other" 1M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-target="$tmp/target" \
           cbw-cluster-size=64k
cp "$tmp/disk" "$tmp/old"
guest <<<"h.pwrite (b'1' * 300000, 100000)"

# start_elsewhere NAME COMMAND...: the plugin, run by that command.
start_elsewhere ()
{
    local name=$1
    shift
    eval "start_server '$name' $* $(nbdkit_command) -f -v -U '$tmp/$name.sock' '$plugin' '$shm'"
}

# Where the files have the same names; and where others have these names.
start_elsewhere ns unshare --pid --fork --kill-child --mount --mount-proc
view_is "$tmp/old" "nbd+unix:///?socket=$tmp/ns.sock"
kill_server ns KILL
cat >"$tmp/with-others" <<SH
#!/bin/sh
set -e
mount --bind '$tmp/other' '$tmp/disk'
mount --bind '$tmp/other' '$tmp/target'
exec "\$@"
SH
chmod +x "$tmp/with-others"
start_elsewhere bound unshare --pid --fork --kill-child --mount --mount-proc \
                "$tmp/with-others"
view_is "$tmp/old" "nbd+unix:///?socket=$tmp/bound.sock"
kill_server bound KILL
expect_in "$tmp/bound.log" "is read through the filter: $tmp/disk: cannot be opened from here"

# A user without the right to look at other processes.
start_elsewhere plain setpriv --bounding-set=-all --inh-caps=-all
view_is "$tmp/old" "nbd+unix:///?socket=$tmp/plain.sock"

# Both servers as a user into whose processes only root may look, as they have
# changed to it.
chmod 711 "$tmp"
mkdir "$tmp/nobody"
cp "$tmp/old" "$tmp/nobody/disk"
chown -R nobody "$tmp/nobody"
start_nbdkit theirs -u nobody --filter="$filter" file "$tmp/nobody/disk" \
             cbw-shm="$tmp/nobody/segment" cbw-target="$tmp/nobody/target"
nbdsh -u "nbd+unix:///?socket=$tmp/theirs.sock" \
      -c "h.pwrite (b'1' * 300000, 100000)"
start_nbdkit view -u nobody "$plugin" "$tmp/nobody/segment"
view_is "$tmp/old" "nbd+unix:///?socket=$tmp/view.sock"
