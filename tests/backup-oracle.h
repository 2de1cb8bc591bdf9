/* SPDX-License-Identifier: BSD-3-Clause */

/* Backups in the model of both servers: what the disk was at the cut, which
 * the image must be when it is complete.
 *
 * An image that is complete was compared, and is rubbish from then on.  What
 * happens when a backup ends depends on a number that was drawn when it
 * began, as nobody knows at which step that will be.  One thread uses it.
 */

#ifndef CBW_BACKUP_ORACLE_H
#define CBW_BACKUP_ORACLE_H

#include "image-oracle.h"
#include "model-oracle.h"

#define NR_BACKUPS 3

/* Names of images contain this. */
#define IMAGE_SUFFIX ".bak"

struct backup {
  bool running;
  bool left;                    /* a complete image is left behind */
  bool force;                   /* it replaces a file */
  char name[CBW_NAME_MAX];
  char image[CBW_TARGET_MAX];   /* the file */
  char target[CBW_TARGET_MAX];  /* what the server is told: the same, or a
                                 * command that serves the file */
  unsigned char *data;          /* the disk at the cut */
  uint64_t id;
  unsigned index;               /* of its entry */
  uint64_t dice;                /* for what is done at its end */

  /* An increment has its own ways to end (increment-oracle.h), called when it
   * is complete, or was cancelled; else NULL.
   */
  void (*complete) (struct backup *b);
  void (*cancelled) (struct backup *b);
};

struct backups {
  struct backup list[NR_BACKUPS];
  char kept[CBW_NAME_MAX];      /* of a result nobody asked for, or "" */
  uint64_t begun, completed, cancelled, evicted;
};

extern struct backups backups;

/* One that may be begun, if b is neither running nor left: its name, perhaps
 * that of a result which nobody asked for ("again"), and its image.  "force":
 * there is a file that it is to replace.
 */
extern void backup_new (struct backup *b, bool again, bool force,
                        uint64_t dice);

/* Is that file still there, as it was? */
extern bool backup_image_is_old (const struct backup *b);

/* Begin it, as "client"; 0, or -1 with the error set. */
extern int backup_begin (struct backup *b, struct client *client,
                         uint64_t speed, struct error *e);

/* It was not begun: there is nothing but that file, which is removed. */
extern void backup_refused (struct backup *b);

/* It was begun when the disk was this. */
extern void backup_add (struct backup *b, const unsigned char *data);

/* It was cancelled, or perhaps complete before: it is as if it had never
 * been, or the image is whole.
 */
extern void backup_cancelled (struct backup *b);

/* Those that are complete: compare the images, and make rubbish of them. */
extern void backups_check (void);

/* Do one of several things to the backup. */
extern void backup_control (struct backup *b, uint64_t dice);

/* Find its entry, and set id and index: it was begun. */
extern void backup_find (struct backup *b);

/* How does it stand?  It must not have failed. */
extern enum backup_stand backup_stand (const struct backup *b);

/* The image must be b->data, byte for byte. */
extern void backup_check_image (const struct backup *b);

/* Cancel it, or resume it at full speed and wait until it is complete. */
extern void backup_cancel (struct backup *b);
extern void backup_await (struct backup *b);

/* Is it in the table, and can perhaps be read? */
extern bool backup_is_listed (const struct backup *b);

/* The backup's view into model.buf; false if it has become complete, and the
 * image is in model.buf instead.
 */
extern bool backup_read (struct backup *b);

/* End all, by cancelling or waiting, and forget the results. */
extern void backups_end (uint64_t *seed);

#endif /* CBW_BACKUP_ORACLE_H */
