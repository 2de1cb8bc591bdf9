/* SPDX-License-Identifier: BSD-3-Clause */

/* What errors mean.  Copies, fill and drain threads ask here. */

#include <config.h>

#include <errno.h>

#include "below/log.h"
#include "snapshot/policy.h"
#include "utils/clock.h"

bool
policy_is_full (int num)
{
  return num == ENOSPC || num == EDQUOT;
}

bool
policy_stalls (const struct snapshot *snap, int num, uint64_t stalled_ns)
{
  return policy_is_full (num) && stalled_ns < snap->fixed.options.stall_ns;
}

void
policy_stall (struct snapshot *snap, uint64_t stalled_ns)
{
  const uint64_t stall_ns = snap->fixed.options.stall_ns;
  const uint64_t until = now_realtime_ns () + stall_ns - stalled_ns;

  if (atomic_exchange (&snap->entry->stalled_until_ns, until) == 0)
    log_error ("cbw: the target of snapshot \"%s\" is full; guests' "
               "writes wait up to %g s for space", snap->fixed.name,
               (double) stall_ns / NS_PER_SEC);
}

void
policy_unstall (struct snapshot *snap)
{
  atomic_store (&snap->entry->stalled_until_ns, 0);
}

int
policy_copy_failed (struct snapshot *snap, int num, uint64_t offset,
                    const char *msg)
{
  if (snap->fixed.options.on_error == CBW_ON_ERROR_BREAK_SNAPSHOT) {
    snapshot_break (snap, CBW_BROKEN_COPY, num, offset, msg);
    return 0;
  }
  switch (snapshot_record_failure (snap, num, offset)) {
  case SNAPSHOT_NEEDS_NOTHING:
    return 0;
  case SNAPSHOT_FAILED_FIRST:   /* a guest may try again and again */
    log_error ("cbw: a guest's write fails, since snapshot \"%s\" cannot "
               "preserve what it overwrites: %s", snap->fixed.name, msg);
    break;
  case SNAPSHOT_FAILED_AGAIN:
    break;
  }
  return num;
}

enum cbw_on_fill_error
policy_of_backup (const struct snapshot *snap, bool is_read, int num)
{
  const struct cbw_options *options = &snap->fixed.options;
  const enum cbw_on_fill_error policy =
    is_read ? options->on_source_error : options->on_target_error;

  if (policy != CBW_FILL_ENOSPC)
    return policy;
  return policy_is_full (num) ? CBW_FILL_STOP : CBW_FILL_REPORT;
}

bool
policy_allows_writeback (const struct cbw_options *options)
{
  return options->on_error != CBW_ON_ERROR_BREAK_GUEST_WRITE;
}
