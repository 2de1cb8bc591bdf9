/* SPDX-License-Identifier: BSD-3-Clause */

/* The plugin's parameters, as given on the command line. */

#ifndef CBW_PLUGIN_PARAMS_H
#define CBW_PLUGIN_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "utils/clock.h"

/* May clients discard, and by what? */
enum discard { DISCARD_NO, DISCARD_TRIM, DISCARD_READ };

struct params {
  char *shm;                    /* path of the segment, absolute; or */
  char *qcow2;                  /* of the image, absolute */
  const char *snapshot;         /* what the export "" means; NULL: newest */
  bool create;                  /* take a snapshot of our own */
  char *target;                 /* where its old data goes; NULL: default */
  enum discard discard;
  bool direct;                  /* read by itself what it can */
  uint64_t wait_ns;             /* for the filter, at start */
  uint64_t timeout_ns;          /* for a filter that is restarted */
  const char *shm_only;         /* one that was given, of those which need a
                                 * segment, or NULL */
};

#define PARAMS_INIT { .wait_ns = 5 * NS_PER_SEC, .direct = true }

/* Parse one key=value.  0, or -1 after nbdkit_error. */
extern int params_parse (struct params *p, const char *key,
                         const char *value);

/* Everything was parsed: is it complete?  0, or -1 after nbdkit_error. */
extern int params_complete (const struct params *p);

extern void params_free (struct params *p);

/* For nbdkit --help. */
#define PARAMS_HELP                                                  \
  "[shm=]NAME|PATH   The segment: the filter's cbw-shm=.  Or instead,\n" \
  "qcow2=FILE        the image whose internal snapshots are to be served.\n" \
  "snapshot=NAME     What the default export means (default: the newest\n" \
  "                  snapshot).\n"                                      \
  "With a segment:\n"                                                   \
  "create=true       Take a snapshot at start, and drop it at the end.\n" \
  "target=FILE|URI   Where its old data goes (default: NAME.cow beside the\n" \
  "                  segment, or in a private directory in /var/tmp).\n" \
  "discard=true      Let clients discard areas by trimming them.\n"       \
  "discard=read      Discard what has been read: for one client that reads\n" \
  "                  the snapshot once.\n"                               \
  "direct=off        Read everything through the filter (default: auto, read\n" \
  "                  local files without asking).\n"                      \
  "wait=SECS         How long to wait at start for the filter (default: 5).\n" \
  "timeout=SECS      How long a request waits for a filter that is\n"   \
  "                  restarted (default: 0, fail at once)."

#endif /* CBW_PLUGIN_PARAMS_H */
