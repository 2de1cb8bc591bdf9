/* SPDX-License-Identifier: BSD-3-Clause */

/* What the filter says in nbdkit's log.  Only this folder, and the files of
 * filters/cbw itself, include nbdkit's headers; the others say it through here.
 *
 * LOG_WATCH is for a person who watches the engine:
 *
 *   nbdkit -v -D cbw.cut=1 -D cbw.copy=1 --filter=cbw ...
 *
 *   cbw.copy      clusters that are copied, with the guest that needs them
 *   cbw.claims    claims, and waiting for another's
 *   cbw.cut       the gate closes and opens; snapshots become live
 *   cbw.end       snapshots are hidden and closed
 *   cbw.backup    backups settle clusters, and are complete
 *   cbw.takeover  what a server finds in a segment, and does with it
 *
 * A flag that is off costs one load.
 *
 * cbw.cool_ms is for tests: how often regions get cold, in ms.
 */

#ifndef CBW_LOG_H
#define CBW_LOG_H

/* A message for the user, or one for a developer (nbdkit -v). */
extern void log_error (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));
extern void log_debug (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

extern int cbw_debug_copy, cbw_debug_claims, cbw_debug_cut, cbw_debug_end,
  cbw_debug_backup, cbw_debug_takeover, cbw_debug_cool_ms;

#define LOG_WATCH(flag, ...)                    \
  do {                                          \
    if (cbw_debug_ ## flag)                     \
      log_debug ("cbw: " #flag ": " __VA_ARGS__); \
  } while (0)

#endif /* CBW_LOG_H */
