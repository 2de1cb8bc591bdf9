#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The model, and the filter killed at every step, with a write-back buffer.

. ./functions.sh
set -e

[ -n "$SANITIZERS" ] && steps=700 || steps=2000
export CBW_WRITEBACK=1M CBW_STEPS=$steps
bash "$top_srcdir/tests/test-model.sh"
bash "$top_srcdir/tests/test-faults.sh"
