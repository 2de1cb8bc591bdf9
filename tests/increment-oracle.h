/* SPDX-License-Identifier: BSD-3-Clause */

/* Images that are brought up to date, in the model of both servers: files, and
 * an export, that stay while one incremental backup after the other goes to
 * them.
 *
 * Of each image the model knows the base, the moment of which it is the image
 * or from which it is on its way, and the backup that runs.  A file that says
 * that it is the whole image of a moment must be that at any time, also while
 * no server runs.  One thread uses this.
 */

#ifndef CBW_INCREMENT_ORACLE_H
#define CBW_INCREMENT_ORACLE_H

#include "backup-oracle.h"
#include "moment-oracle.h"

#define NR_IMAGES 3             /* the last is an export */

struct image_model {
  struct backup b;              /* the first: a backup that is one of an image
                                 * is the image, too */
  bool marked;                  /* it is a file, which says what it is */
  bool same_name;               /* its backups all have one name */

  struct moment base;
  char base_name[CBW_NAME_MAX];
  uint8_t base_uuid[16];

  struct moment next;           /* of the backup that runs */
  uint64_t last;                /* its id, or that of the one before */
  uint8_t uuid[16];

  uint64_t since;               /* what the next backup is asked for, */
  uint64_t expected;            /* ... what it is then made from; 0: all, */
  bool refused;                 /* ... or that it is not made */
};

struct increments {
  struct image_model list[NR_IMAGES];
  uint64_t begun, full, refused, completed, cancelled; /* so far */
};

extern struct increments increments;

/* Before anything else: where the images are.  Files are left out where the
 * file system has no extended attributes.
 */
extern void increments_start (void);

/* Is it an image that can be used here? */
static inline bool
image_is_used (const struct image_model *im)
{
  return im->marked || im == &increments.list[NR_IMAGES - 1];
}

/* Plan a backup to the image; none runs.  What is asked for is drawn from
 * "dice": from the right point, or the choice of the server, or from a wrong
 * point, which must be refused.
 */
extern void increment_plan (struct image_model *im, uint64_t dice);

/* Ask for what was planned; 0, or -1 with the error set. */
extern int increment_begin (struct image_model *im, struct client *client,
                            uint64_t speed, struct error *e);

/* Is what was planned in the table?  A result of an earlier one, which may
 * have its name, is not it.
 */
extern bool increment_is_listed (const struct image_model *im);

/* It was begun, when the disk was "data". */
extern void increment_add (struct image_model *im, const unsigned char *data);

/* Drop the point of the image's base, if it is there: no backup can be made
 * from it any more but the one that runs.
 */
extern void increment_drop_base (const struct image_model *im);

/* It was not begun.  Returns whether that had to be so. */
extern bool increment_refused (const struct image_model *im,
                               const struct error *e);

/* Each file is what it says it is; but for "but", of which a backup may be
 * begun just now (NULL: none), and for those which a server may be about to
 * replace: it does not replace a file that somebody reads.
 */
extern void increments_check_marks (const struct image_model *but);

/* End those that are complete, and check the images. */
extern void increments_check (void);

/* End all, by cancelling or waiting. */
extern void increments_end (uint64_t *seed);

#endif /* CBW_INCREMENT_ORACLE_H */
