/* SPDX-License-Identifier: BSD-3-Clause */

/* What the stress test knows about the disk: what it held at the moment
 * of the snapshot, which part belongs to which writer, and what the
 * writers have made of it.  All of it follows from the seed.
 */

#ifndef CBW_STRESS_ORACLE_H
#define CBW_STRESS_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A part of the disk which one writer alone writes to. */
struct area {
  uint64_t offset;
  uint64_t length;
};

/* The areas of one writer. */
struct areas {
  struct area *list;
  size_t nr;
};

struct model {
  uint64_t size;
  uint64_t seed;
  bool blank;                   /* the disk was zero at the snapshot */
  unsigned writers;
  struct areas *areas;          /* [writers] */
  unsigned char *now;           /* [size] each byte by its area's writer */
};

extern void model_init (struct model *m, uint64_t size, uint64_t seed,
                        bool blank, unsigned writers);
extern void model_free (struct model *m);

/* What the disk held at the moment of the snapshot. */
extern void model_old (const struct model *m, unsigned char *buf,
                       uint64_t count, uint64_t offset);

/* Write that to a new sparse file: some zero areas are holes, some not. */
extern void model_make_file (const struct model *m, const char *path);

/* A random number up to "max" at least 1, small ones as often as large. */
extern uint64_t random_length (uint64_t *seed, uint64_t max);

#endif /* CBW_STRESS_ORACLE_H */
