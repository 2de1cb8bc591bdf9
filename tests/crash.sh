# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests with crash-driver, after functions.sh and live.sh.
#
# CBW_CRASHES, a number, makes the host crash so often; see live.sh for more.

# crash_server ARGS...: how the filter is started, with crash-preload.
crash_server ()
{
    truncate -s 1M "$tmp/disk.img"
    preload=$PWD/.libs/crash-preload.so
    export CBW_CRASH_DIR=$tmp CBW_CRASH_SEGMENT=$shm
    export CBW_CRASH_FILES=$tmp/disk.img
    run_file disk --filter="$filter" file "$tmp/disk.img" cbw-shm="$shm" \
             cbw-cluster-size=4k "$@"
    preload=
}
