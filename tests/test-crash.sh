#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The host crashes, again and again: with cbw-durable=on all points stay, and
# what has changed since them is known.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
. "$top_srcdir/tests/crash.sh"
set -e

crash_server cbw-durable=on -D cbw.cool_ms=1
live crash-driver durable=1 crashes="${CBW_CRASHES:-40}"
