#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The filter's parameters: a bad one is refused with a message that says
# what, on what and why, and leaves neither segment nor target; a good one
# does what it says.

. ./functions.sh
set -e

truncate -s 1M "$tmp/disk"
target=$tmp/target
long63=$(printf 'n%.0s' $(seq 63))

# bad TEXT ARGS...: refused with that text, and nothing is left.
bad ()
{
    local text=$1
    shift
    refused --filter="$filter" file "$tmp/disk" "$@"
    expect_in "$tmp/refused.log" "$text"
    absent "$shm" "$target" "$tmp/a:" "/dev/shm/$me-$$"
}

bad "cbw-shm=NAME|PATH is required"
bad "cbw-shm=NAME|PATH is required"             cbw-target="$target"
bad '"" is not a name for a segment'            cbw-shm=
bad '".." is not a name for a segment'          cbw-shm=..
bad '"." is not a name for a segment'           cbw-shm=.
bad "$tmp/no/shm: cannot make a segment in $tmp/no/: No such file" \
    cbw-shm="$tmp/no/shm"

set -- cbw-shm="$shm" cbw-target="$target"
size="must be a power of two between 4k and 4M"
bad "cbw-cluster-size=3k: $size"                "$@" cbw-cluster-size=3k
bad "cbw-cluster-size=8M: $size"                "$@" cbw-cluster-size=8M
bad "cbw-cluster-size=6000: $size"              "$@" cbw-cluster-size=6000
bad "cbw-cluster-size=2048: $size"              "$@" cbw-cluster-size=2048
bad "cbw-cluster-size=0: $size"                 "$@" cbw-cluster-size=0
bad "cbw-cluster-size=big: is not a size"       "$@" cbw-cluster-size=big
bad "cbw-cluster-size=-64k: is not a size"      "$@" cbw-cluster-size=-64k
bad "cbw-cluster-size=: is not a size"          "$@" cbw-cluster-size=

name="a snapshot's name cannot"
bad "cbw-snapshot: $name be empty"              "$@" cbw-snapshot=
bad "cbw-snapshot: $name contain the character 0x2f" "$@" cbw-snapshot=a/b
bad "cbw-snapshot: $name contain the character 0x0a" "$@" cbw-snapshot=$'a\nb'
bad 'name ".." contains ".."'                   "$@" cbw-snapshot=..
bad 'name "a..b" contains ".."'                 "$@" cbw-snapshot=a..b
bad "longer than 63 bytes"                      "$@" cbw-snapshot="n$long63"

bad "cbw-threads=0: must be between 1 and 64"   "$@" cbw-threads=0
bad "cbw-threads=65: must be between 1 and 64"  "$@" cbw-threads=65
bad "cbw-threads"                               "$@" cbw-threads=-1
bad "cbw-threads"                               "$@" cbw-threads=many

bad "cbw-on-error=explode: the policy must be " "$@" cbw-on-error=explode
bad "cbw-timeout=-1: must be a number of seconds" "$@" cbw-timeout=-1
bad "cbw-timeout=1s: must be a number of seconds" "$@" cbw-timeout=1s
bad "cbw-timeout=nan: must be a number of seconds" "$@" cbw-timeout=nan
bad "cbw-full=wait: must be stall:SECS"         "$@" cbw-full=wait
bad "cbw-full=stall:x: must be a number of sec" "$@" cbw-full=stall:x
bad "cbw-quota=0: is not a size"                "$@" cbw-quota=0
bad "cbw-quota=much: is not a size"             "$@" cbw-quota=much
bad "cbw-direct=on: must be auto or off"         "$@" cbw-direct=on
bad "cbw-direct=: must be auto or off"           "$@" cbw-direct=
bad "cbw-access: the file name is empty"        "$@" cbw-access=
bad "$tmp/none: cannot open the access file: No such file" \
    "$@" cbw-access="$tmp/none"
bad "$tmp: the access file must be a regular"   "$@" cbw-access="$tmp"
mkfifo "$tmp/areas"
bad "$tmp/areas: the access file must be a reg" "$@" cbw-access="$tmp/areas"
for p in on-error=break-guest-write timeout=1 full=stall:1 quota=1M \
         access="$tmp/none"; do
    bad "cbw-${p%%=*} goes with cbw-target" cbw-shm="$shm" "cbw-$p"
done
bad "cbw: --filter=cbw is given 2 times"         --filter="$filter" "$@"
bad "unknown parameter cbw-foo of the cbw filter" "$@" cbw-foo=1
bad "unknown parameter cbw-Shm of the cbw filter" "$@" cbw-Shm=1
bad "unknown parameter 'foo'"                   "$@" foo=1

set -- cbw-shm="$shm"
bad "cbw-target: the file name is empty"        "$@" cbw-target=
bad "cbw-target=http://localhost: is neither a file nor" \
    "$@" cbw-target=http://localhost
bad "$tmp/no/target: cannot make a target in $tmp/no/: No such file" \
    "$@" cbw-target="$tmp/no/target"
bad "cbw-target: it is longer than 1023 bytes" \
    "$@" cbw-target="/$(printf 'd/%.0s' $(seq 600))target"

# A target that is something else already is refused, and not touched.
echo "precious" >"$tmp/precious"
before=$(stat -c '%i %s %Y %a' "$tmp/precious")
bad "$tmp/precious: exists and is not empty"    "$@" cbw-target="$tmp/precious"
[ "$(cat "$tmp/precious")" = precious ] || fail "it was changed"
[ "$(stat -c '%i %s %Y %a' "$tmp/precious")" = "$before" ] || fail "touched"
bad "$tmp/disk: exists and is not empty"        "$@" cbw-target="$tmp/disk"
bad "$tmp: exists and is not empty"             "$@" cbw-target="$tmp"
bad "/dev/null: exists and is not empty"        "$@" cbw-target=/dev/null
bad "$shm"                                      "$@" cbw-target="$shm"
mkfifo "$tmp/fifo"
bad "$tmp/fifo: exists and is not empty"        "$@" cbw-target="$tmp/fifo"

# Also where there is a segment already, which is left as it is.
start_disk file "$tmp/disk" "$@"
stop_server disk
sum=$(checksum "$shm")
refused --filter="$filter" file "$tmp/disk" "$@" cbw-target="$tmp/precious"
expect_in "$tmp/refused.log" "$tmp/precious: exists and is not empty"
refused --filter="$filter" file "$tmp/disk" "$@" cbw-target="$tmp/disk"
expect_in "$tmp/refused.log" "$tmp/disk: is in use by this server"
for f in "$tmp/fifo" /dev/null; do
    refused --filter="$filter" file "$tmp/disk" "$@" cbw-target="$f"
    expect_in "$tmp/refused.log" "$f: a target must be a regular file"
done
[ "$(cat "$tmp/precious")" = precious ] || fail "it was changed"
[ "$(stat -c '%s' "$tmp/disk")" = 1048576 ] || fail "the disk was changed"
rm "$shm"

# good TEXT ARGS...: works, and the view's listing has the text.
good ()
{
    local text=$1
    shift
    start_disk file "$tmp/disk" "$@"
    start_snap "$shm"
    nbdinfo --list "$snap" >"$tmp/list"
    expect_in "$tmp/list" "$text"
    guest <<PY
h.pwrite (b"x" * 512, 70000)
PY
    reader <<PY
assert h.pread (1024 * 1024, 0) == bytes (1024 * 1024)
PY
    stop_server snap
    stop_server disk
    rm -f "$shm" "$target"
    truncate -s 0 "$tmp/disk"
    truncate -s 1M "$tmp/disk"
}
set -- cbw-shm="$shm" cbw-target="$target"
good 'export="snapshot"'        "$@"
good "export=\"$long63\""       "$@" cbw-snapshot="$long63"
good 'export="with space, ü"'   "$@" cbw-snapshot="with space, ü"
good "block_size_preferred: 4096" "$@" cbw-cluster-size=4k
good "block_size_preferred: 4096" "$@" cbw-cluster-size=4096
good "block_size_preferred: 4194304" "$@" cbw-cluster-size=4M
good "block_size_preferred: 4096" "$@" # the default
good "live"                     "$@" cbw-threads=1
good "live"                     "$@" cbw-threads=64
good "live"                     "$@" cbw-on-error=break-snapshot
good "live"                     "$@" cbw-on-error=break-guest-write \
     cbw-timeout=9.5 cbw-full=stall:0.5 cbw-quota=1M

# An empty file will do as target, and is used; but not one that others may
# open.
: >"$target"
chmod 640 "$target"
refused --filter="$filter" file "$tmp/disk" "$@"
expect_in "$tmp/refused.log" "$target: other users may open it (mode 640)"
chmod 600 "$target"
good "live"                     "$@"

# A file name with a colon is a file name.
cd "$tmp"
start_disk file "$tmp/disk" cbw-shm=./shm cbw-target=a:
[ -e "$tmp/shm" ] && [ -e "$tmp/a:" ] || fail "relative names"
stop_server disk
cd - >/dev/null
rm "$shm" "$tmp/a:"

# A NAME is POSIX shared memory.  No other user may read segment or target.
at_exit "rm -f /dev/shm/$me-$$"
start_disk file "$tmp/disk" cbw-shm="$me-$$" cbw-target="$target"
[ -s "/dev/shm/$me-$$" ] || fail "no /dev/shm/$me-$$"
[ "$(stat -c %a "/dev/shm/$me-$$" "$target" | tr '\n' ' ')" = "600 600 " ] ||
    fail "the modes are wrong"
start_snap "$me-$$"
nbdinfo --list "$snap" >"$tmp/list"
expect_in "$tmp/list" "live"
stop_server snap
stop_server disk

# Without cbw-target= there is no snapshot, and that is fine.
start_disk file "$tmp/disk" cbw-shm="$shm"
start_snap "$shm"
nbdinfo --list "$snap" >"$tmp/list" 2>&1 || :
not_in "$tmp/list" 'export="snapshot"'
guest <<PY
h.pwrite (b"y" * 512, 0)
assert h.pread (512, 0) == b"y" * 512
PY
if nbdinfo --size "$snap" 2>"$tmp/size"; then
    fail "there is nothing to serve"
fi
expect_in "$tmp/snap.log" "$shm: there is no snapshot"
