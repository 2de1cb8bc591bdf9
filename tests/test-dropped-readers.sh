#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients connected to a snapshot that is dropped get ESHUTDOWN, whatever
# they do and also if the name is taken anew; those of other snapshots go
# on.

. ./functions.sh
set -e

random_file "$tmp/disk" 1M
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
for s in a b c; do
    cbwctl create "$shm" $s >/dev/null
done
uri () { echo "nbd+unix:///$1?socket=$tmp/snap.sock"; }

"$PYTHON" - "$(uri a)" "$(uri b)" "$(uri c)" "$tmp" "$cbwctl" "$shm" <<'PY'
import errno, nbd, subprocess, sys
uris, tmp, cbwctl, shm = sys.argv[1:4], *sys.argv[4:]
handles = {}
for uri, name in zip (uris, "abc"):
    h = handles[name] = nbd.NBD ()
    h.add_meta_context ("base:allocation")
    h.connect_uri (uri)
    h.pread (512, 0)

def ops (h):
    return [lambda: h.pread (512, 0),
            lambda: h.pread (1024 * 1024, 0),
            lambda: h.block_status (1024 * 1024, 0, lambda *a: 0),
            lambda: h.cache (512, 0)]
def gone (h):
    for op in ops (h):
        try:
            op ()
            assert False
        except nbd.Error as e:
            assert e.errnum == errno.ESHUTDOWN, e.string
def works (h):
    for op in ops (h):
        op ()
def run (*args):
    subprocess.run ([cbwctl] + list (args), check = True,
                    stdout = subprocess.DEVNULL)

# The middle one, which stays hidden; the newest, hidden too; the oldest.
live = set ("abc")
for name in "bca":
    run ("drop", shm, name)
    live.remove (name)
    for n in "abc":
        (works if n in live else gone) (handles[n])
    run ("create", shm, name, "--target=" + tmp + "/again-" + name)
    gone (handles[name])
    run ("drop", shm, name)
PY
cbwctl status "$shm" --json | json "j['snapshots'] == []"
absent "$tmp"/*.cow* "$tmp"/again-*
