# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests of delta exports, after functions.sh.  Clusters are
# 64 KiB in all of them.
#
#   export_of NAME        the URI of that export of the plugin at $snap
#   delta_is NAME LINES...
#                         the map of delta NAME is exactly that: lines of
#                         START LENGTH TYPE, in clusters; type 1 is a hole of
#                         unknown content, "look in A's image"
#   delta_bytes NAME N    so many bytes are not of type 1
#   overlay_is QCOW2 RAW  an image, with its backing files, has these bytes,
#                         and qemu-img check finds nothing wrong with it
#   overlay_has QCOW2 CLUSTERS...
#                         it holds exactly these itself
#   open_fails NAME TEXT  the export cannot be opened, and the log says why

export_of ()
{
    echo "nbd+unix:///$1?socket=$tmp/snap.sock"
}

delta_is ()
{
    local name=$1
    shift
    nbdinfo --map "$(export_of "$name")" | awk 'BEGIN { type = "none" } {
        if ($3 == type) n += $2
        else { if (n) print start, n / 65536, type; start = $1 / 65536
               n = $2; type = $3 }
      } END { print start, n / 65536, type }' >"$tmp/map"
    printf '%s\n' "$@" | diff - "$tmp/map" >&2 ||
        fail "the map of $name is not that"
}

delta_bytes ()
{
    local bytes
    bytes=$(nbdinfo --map "$(export_of "$1")" |
                awk '$3 != 1 { n += $2 } END { printf "%.0f", n }')
    [ "$bytes" -eq "$2" ] || fail "$1 has $bytes bytes, not $2"
}

overlay_is ()
{
    qemu-img check "$1" >"$tmp/qemu.log" 2>&1 &&
        qemu-img compare -f qcow2 -F raw "$1" "$2" >"$tmp/qemu.log" 2>&1 ||
        { cat "$tmp/qemu.log" >&2; fail "$1 is not $2"; }
}

overlay_has ()
{
    local image=$1
    shift
    qemu-img map --output=json "$image" | "$PYTHON" -c '
import json, sys
own = set ()
for x in json.load (sys.stdin):
    if x["depth"] == 0 and x.get ("present", True):
        own.update (range (x["start"] // 65536,
                           (x["start"] + x["length"] + 65535) // 65536))
assert own == set (map (int, sys.argv[1:])), sorted (own)
' "$@" || fail "$image does not hold exactly clusters $*"
}

open_fails ()
{
    local before
    before=$(wc -l <"$tmp/snap.log")
    if nbdinfo --size "$(export_of "$1")" >"$tmp/opened" 2>&1; then
        fail "\"$1\" could be opened"
    fi
    tail -n +$((before + 1)) "$tmp/snap.log" >"$tmp/why"
    expect_in "$tmp/why" "$2"
}
