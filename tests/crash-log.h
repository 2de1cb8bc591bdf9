/* SPDX-License-Identifier: BSD-3-Clause */

/* The log from which crash-state.c works out what a crash of the host may
 * leave of a few files.  crash-record.c writes it, in a file that all servers
 * of one boot of the host map, one after the other.
 *
 * Records follow each other and are never changed, but for "ended".  The place
 * of a record in the log is its time.
 *
 *   CHANGE   a call changes the range of the file; it has returned when
 *            "ended" is not 0, which is then the end of the log at that time
 *   OLD      what a part of that range held before; "of" is the CHANGE.  There
 *            are none of holes, if the call makes zeroes
 *   PAGE     what a page of the segment was at that moment: guessed
 *            moments, and the beginning of each call that syncs it
 *   SYNC     a call that brings the range to stable storage; when "ended" is
 *            not 0 it has returned, with success
 */

#ifndef CBW_CRASH_LOG_H
#define CBW_CRASH_LOG_H

#include <stdatomic.h>
#include <stdint.h>

#define CRASH_LOG_MAGIC UINT64_C (0x474f4c4853415243)
#define CRASH_LOG_SIZE (UINT64_C (512) << 20) /* a sparse file */
#define CRASH_PAGE 4096u
#define CRASH_FILES 8

/* The segment's number; other files are those of $CBW_CRASH_FILES, from 1. */
#define CRASH_SEGMENT 0

enum crash_kind { CRASH_CHANGE = 1, CRASH_OLD, CRASH_PAGE_WAS, CRASH_SYNC };

struct crash_record {
  uint32_t kind, file;
  uint64_t size;                /* of the record and its data */
  uint64_t offset, count;       /* a range of the file, bytes */
  uint64_t of;                  /* OLD: where its CHANGE is in the log */
  _Atomic (uint64_t) ended;
  uint64_t nr_data;             /* bytes that follow: count, or 0 for zeroes */
};

struct crash_log {
  uint64_t magic;
  _Atomic (uint64_t) end;       /* of the last record, from here */
  /* What need not be looked at in the segment: buffers, of which only the
   * first page of each "skip_step" bytes is.
   */
  uint64_t skip_from, skip_to, skip_step;
  /* The server counts it down at its syncs and changes, and kills itself when
   * it arrives at 0.  While it is 0 nothing happens.
   */
  _Atomic (int) countdown;
};

/* Is the page at "offset" of the segment one of those that are watched?  All
 * others stay at a crash what they are.
 */
static inline int
crash_is_watched (const struct crash_log *log, uint64_t offset)
{
  return offset < log->skip_from || offset >= log->skip_to ||
    (offset - log->skip_from) % log->skip_step == 0;
}

#endif /* CBW_CRASH_LOG_H */
