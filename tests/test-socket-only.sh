#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# docs/security.md: the plugin's socket is the boundary.  Another user who may
# connect to it, and no more, reads the snapshot, and gets at nothing else:
# not by NBD, not at the segment, the target, the disk or the guest's socket,
# not by cbwctl, and not through /proc.

. ./functions.sh
set -e
if [ "$(id -u)" -ne 0 ]; then
    skip "only root can try as another user"
fi
requires setpriv

stranger ()
{
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
}
# The stranger has a cbwctl where it can run it.
chmod 711 "$tmp"
mkdir -m 755 "$tmp/open"
mkdir -m 700 "$tmp/private"
cp "$cbwctl" "$tmp/open/cbwctl"
if ! stranger "$PYTHON" -c 'import nbd' 2>/dev/null ||
   ! stranger "$tmp/open/cbwctl" --version >/dev/null 2>&1; then
    skip "another user cannot run Python's libnbd or cbwctl here"
fi

random_file "$tmp/private/disk" 1M
cp "$tmp/private/disk" "$tmp/open/old"
shm=$tmp/private/segment
# In memory too, where others see the name.
memory=$(basename "$tmp")
at_exit "rm -f '/dev/shm/$memory'"
start_nbdkit other --filter="$filter" memory 1M cbw-shm="$memory"
start_disk file "$tmp/private/disk" cbw-shm="$shm" \
           cbw-target="$tmp/private/target"
start_snap "$shm"
guest <<'PY'
h.pwrite (b"n" * 100000, 50000)
PY

# A socket is its server's user's, until that hands it out.
connect ()
{
    stranger "$PYTHON" -m nbd -u "$1" -c 'h.get_size ()' 2>"$tmp/err"
}
for uri in "$disk" "$snap"; do
    if connect "$uri"; then fail "$uri was open to all"; fi
    expect_in "$tmp/err" "Permission denied"
done
chmod 666 "$tmp/snap.sock"

# -- By NBD
stranger "$PYTHON" - "$snap" "$tmp/open/old" <<'PY'
import errno, nbd, sys
uri, path = sys.argv[1:]
old = open (path, "rb").read ()

def refused (what, *numbers):
    try:
        what ()
    except nbd.Error as e:
        assert not numbers or e.errnum in numbers, e
    else:
        raise AssertionError ("that was possible")

h = nbd.NBD ()
h.set_strict_mode (0)           # what it is told that it cannot, it tries
h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri (uri)
assert h.pread (len (old), 0) == old
h.block_status (len (old), 0, lambda *args: 0)

refused (lambda: h.pwrite (b"x" * 512, 0), errno.EPERM)
refused (lambda: h.zero (512, 0), errno.EPERM, errno.EINVAL)
refused (lambda: h.trim (65536, 0), errno.EPERM, errno.EINVAL)
refused (lambda: h.pread (512, len (old)), errno.EINVAL)
assert h.pread (len (old), 0) == old
h.shutdown ()

# Names of exports are names of snapshots, and not paths.
for name in ["../disk", "/etc/passwd", "[ true ]", "x" * 4000, "..\0"]:
    g = nbd.NBD ()
    g.set_opt_mode (True)
    g.connect_uri (uri)
    try:
        g.set_export_name (name)
    except (nbd.Error, ValueError):
        continue                # libnbd itself refuses it
    refused (g.opt_go)
PY

# -- The files
may_not ()
{
    if stranger "$@" >"$tmp/out" 2>"$tmp/err"; then
        cat "$tmp/out" >&2
        fail "another user could: $*"
    fi
    grep -q 'Permission denied\|not permitted' "$tmp/err" ||
        { cat "$tmp/err" >&2; fail "not refused for the right reason: $*"; }
}
for file in "$shm" "$tmp/private/target" "$tmp/private/disk" \
            "/dev/shm/$memory"; do
    may_not head -c 1 "$file"
    may_not dd if=/dev/null of="$file" conv=notrunc
    may_not rm -f "$file"
done
# Even where the directory is open, the segment and the target are not.
chmod 755 "$tmp/private"
for file in "$shm" "$tmp/private/target"; do
    may_not head -c 1 "$file"
    may_not dd if=/dev/null of="$file" conv=notrunc
    may_not truncate -s 0 "$file"
done

# -- cbwctl, on a segment whose name can be guessed and on one whose cannot
for segment in "$shm" "$memory"; do
    for args in status check "map snapshot" "create mine" "drop snapshot" \
                "backup --to=$tmp/open/copy"; do
        set -- $args
        may_not "$tmp/open/cbwctl" "$1" "$segment" "${@:2}"
    done
done
chmod 700 "$tmp/private"

# -- /proc, and signals
for server in disk snap other; do
    pid=$(server_pid $server)
    may_not ls "/proc/$pid/fd/"
    may_not ls "/proc/$pid/map_files/"
    may_not ls "/proc/$pid/cwd/"
    may_not ls "/proc/$pid/root/"
    may_not head -c 1 "/proc/$pid/mem"
    may_not head -c 1 "/proc/$pid/maps"
    may_not head -c 1 "/proc/$pid/environ"
    may_not kill -0 "$pid"
done

# After all of it everything is as it was.
view_is "$tmp/open/old"
cbwctl check "$shm" >/dev/null
cbwctl status "$shm" --json |
    json "[(s['name'], s['state']) for s in j['snapshots']] ==
          [('snapshot', 'live')]"
