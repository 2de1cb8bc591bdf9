/* SPDX-License-Identifier: BSD-3-Clause */

/* The filter's parameters, as given on the command line. */

#ifndef CBW_PARAMS_H
#define CBW_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "segment/layout.h"

struct params {
  char *shm;                    /* path of the segment, absolute */
  char *target;                 /* absolute path, or NULL: no snapshot */
  char *access;                 /* absolute path, or NULL: everything */
  struct cbw_options options;   /* of that snapshot */
  const char *snapshot;         /* name of the snapshot at start */
  const char *export;           /* NULL: not given */
  uint32_t cluster_size;        /* bytes; 0: not given */
  uint64_t writeback;           /* bytes; 0: none */
  unsigned threads;
  bool commands;                /* clients may name commands as targets */
  bool track;                   /* guests' changes are marked in points */
  bool durable;                 /* what is marked survives the host */
  bool direct;                  /* clients may read the disk's file, if it is
                                 * known */
};

#define PARAMS_INIT { .snapshot = "snapshot", .threads = 8, .direct = true, \
                      .track = true }

/* Parse one key=value.  Returns 1 if it was ours, 0 if it is another
 * layer's, -1 on error (after nbdkit_error).
 */
extern int params_parse (struct params *p, const char *key,
                         const char *value);

/* Everything was parsed: is it complete?  0, or -1 after nbdkit_error. */
extern int params_complete (const struct params *p);

extern void params_free (struct params *p);

/* For nbdkit --help. */
extern const char params_help[];

#endif /* CBW_PARAMS_H */
