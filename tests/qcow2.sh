# SPDX-License-Identifier: BSD-3-Clause
# Sourced after functions.sh by the tests of internal snapshots.
#
#   export_uri NAME       of that export of $tmp/snap.sock, whatever its bytes
#   start_writer IMAGE    a qemu-storage-daemon which has the image open for
#                         writing: $disk, and QMP at $tmp/qmp
#   qmp COMMAND [NAME=VALUE...]
#                         tell it to do that
#   qemu_nbds             how many qemu-nbd this test's server runs
#   nothing_left          and none of them is left

requires qemu-img qemu-io qemu-nbd

export_uri ()
{
    "$PYTHON" -c '
import os, sys, urllib.parse
print ("nbd+unix:///%s?socket=%s" %
       (urllib.parse.quote (os.fsencode (sys.argv[1]), safe = ""),
        sys.argv[2]))' "$1" "$tmp/snap.sock"
}

start_writer ()
{
    requires qemu-storage-daemon
    start_server disk qemu-storage-daemon \
        --blockdev driver=file,node-name=file,filename="${1//,/,,}" \
        --blockdev driver=qcow2,node-name=disk,file=file,discard=unmap \
        --chardev socket,id=qmp,path="$tmp/qmp",server=on,wait=off \
        --monitor chardev=qmp \
        --nbd-server addr.type=unix,addr.path="$tmp/disk.sock" \
        --export type=nbd,id=export,node-name=disk,name=,writable=on
}

qmp ()
{
    PYTHONPATH=$top_srcdir/tests "$PYTHON" -c '
import qmp, sys
qmp.Qmp (sys.argv[1]).run (sys.argv[2],
                           **dict (a.split ("=", 1) for a in sys.argv[3:]))
' "$tmp/qmp" "$@"
}

qemu_nbds ()
{
    pgrep -c -P "$(server_pid snap)" qemu-nbd || :
}

no_qemu_nbds ()
{
    [ "$(qemu_nbds)" = 0 ]
}

nothing_left ()
{
    wait_for 10 no_qemu_nbds || fail "qemu-nbd was not ended"
}
