#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What the crash tests take for a crash of the host: it may lose what was not
# synced, all of it or parts, and nothing else.

. ./functions.sh
set -e

"$PWD/crash-selftest" dir="$tmp" \
    preload="$SANITIZER_PRELOAD $PWD/.libs/crash-preload.so" ||
    fail "crash-selftest failed"
