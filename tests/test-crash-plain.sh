#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The host crashes, again and again, and without cbw-durable no point is
# believed that the crash could have made wrong.

. ./functions.sh
. "$top_srcdir/tests/live.sh"
. "$top_srcdir/tests/crash.sh"
set -e

crash_server
live crash-driver crashes="${CBW_CRASHES:-40}"
