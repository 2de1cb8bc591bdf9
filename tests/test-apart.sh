#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A plugin that gives each connection a disk of its own: a snapshot would be
# of another disk than the guest's.  The guest's first write shows it; from
# then on snapshots are refused, and those that there are, broken.

. ./functions.sh
set -e
requires_plugin python

# disk=each: a disk a connection, all with the same content at first;
# disk=sizes: each larger than the last; disk=one: one for all.
cat >"$tmp/disk.py" <<'PY'
import nbdkit
API_VERSION = 2
kind = None
size = 1 << 20
def new():
    global size
    if kind == "sizes":
        size += 4096
    return bytearray(b"o" * size)
one = new()
def config(key, value):
    global kind
    kind = value
def open(readonly):
    return one if kind == "one" else new()
def get_size(h):
    return len(h)
def pread(h, buf, offset, flags):
    buf[:] = h[offset:offset + len(buf)]
def pwrite(h, buf, offset, flags):
    h[offset:offset + len(buf)] = buf
def zero(h, count, offset, flags):
    h[offset:offset + count] = bytes(count)
PY

refused_now ()
{
    text="gives each connection a disk (or a cache) of its own"
    cbwctl_fails 1 "$text" create "$shm" no --target="$tmp/no"
    cbwctl_fails 1 "$text" backup "$shm" no --to="$tmp/no"
    absent "$tmp/no"
    expect_in "$tmp/disk.log" "$text"
    : >"$tmp/disk.log"
}
broken_now ()
{
    cbwctl status "$shm" --json | json "
        [(s['name'], s['state'], s['error']['reason'])
         for s in j['snapshots']] == [('snapshot', 'broken', 'source')]"
    cbwctl status "$shm" >"$tmp/out" || :
    expect_in "$tmp/out" "each connection a disk of its own"
    cbwctl check "$shm" >"$tmp/out" || :
    not_in "$tmp/out" "damaged"
    start_snap "$shm"
    reader <<PY
try:
    h.pread (512, 0)
    assert False
except nbd.Error:
    pass
PY
    stop_server snap
}

for plugin_args in "python $tmp/disk.py disk=each" "tmpdisk 4M"; do
    # shellcheck disable=SC2086
    eval "$(nbdkit_command) --dump-plugin ${plugin_args%% *}" \
         >/dev/null 2>&1 || continue
    command -v mkfs.ext4 >/dev/null || [ "${plugin_args%% *}" = python ] ||
        continue

    # A write, then a snapshot.
    # shellcheck disable=SC2086
    start_disk $plugin_args cbw-shm="$shm" cbw-cluster-size=64k
    guest <<PY
h.pwrite (b"A" * 100000, 1 << 19)
assert h.pread (10, 1 << 19) == b"A" * 10
PY
    refused_now
    stop_server disk
    rm "$shm"

    # A snapshot, then a write; the guest notices nothing.
    # shellcheck disable=SC2086
    start_disk $plugin_args cbw-shm="$shm" cbw-cluster-size=64k \
               cbw-target="$tmp/target"
    guest <<PY
import subprocess
h.pread (512, 0)
h.pwrite (h.pread (512, 512), 512)      # shows nothing
out = subprocess.run (["$cbwctl", "status", "$shm", "--json"],
                      capture_output=True, text=True).stdout
assert '"broken"' not in out, out
h.zero (4096, 8192)                     # is not looked at
h.pwrite (b"B" * 512, 1 << 19)
assert h.pread (512, 1 << 19) == b"B" * 512
PY
    broken_now
    refused_now
    stop_server disk
    rm -f "$shm" "$tmp/target"
done

# The same with cbw-export=: of the first connection's disk a snapshot can
# be taken, as long as it has no other.
start_disk python "$tmp/disk.py" disk=each cbw-export=x cbw-shm="$shm" \
           cbw-cluster-size=64k cbw-target="$tmp/target"
nbdsh -c - <<PY
import subprocess
uri = "nbd+unix:///x?socket=$tmp/disk.sock"
first = nbd.NBD ()
first.connect_uri (uri)
first.pwrite (b"F" * 70000, 0)
def broken ():
    out = subprocess.run (["$cbwctl", "status", "$shm", "--json"],
                          capture_output=True, text=True).stdout
    return '"broken"' in out
assert not broken ()
second = nbd.NBD ()
second.connect_uri (uri)
second.pwrite (b"S" * 10, 100000)
assert broken ()
PY
broken_now
refused_now
stop_server disk
rm "$shm" "$tmp/target"

# Of another size, though nobody has resized it: the connection is refused.
start_disk python "$tmp/disk.py" disk=sizes cbw-shm="$shm"
if nbdinfo --size "$disk" >"$tmp/out" 2>&1; then fail "it can connect"; fi
expect_in "$tmp/disk.log" "this connection has a disk of 10"
stop_server disk
rm "$shm"
: >"$tmp/disk.log"

# One disk, and the plugin does not say so: it is found out, once for each
# connection, and works.
start_disk python "$tmp/disk.py" disk=one cbw-shm="$shm" \
           cbw-cluster-size=64k cbw-target="$tmp/target"
head -c 1M /dev/zero | tr '\0' o >"$tmp/original"
scenario "$tmp/original"
cbwctl create "$shm" second --target="$tmp/second" >/dev/null
not_in "$tmp/disk.log" "of its own"
