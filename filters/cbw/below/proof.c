/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading a guest's write back through another context: see proof.h, and
 * docs/correctness.md, section 19.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "below/patience.h"
#include "below/proof.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

#define PROOF_LOOKS 10
#define PROOF_PAUSE (10 * NS_PER_MS)

void
proof_begin (struct proof *p, struct image *disk, uint64_t offset,
             uint32_t count, const void *data)
{
  struct error e;

  p->count = count;
  p->before = malloc (count);
  /* P1.  What is there already would prove nothing. */
  if (p->before && (disk->ops->pread (disk, p->before, count, offset,
                                       &e) == -1 ||
                    memcmp (p->before, data, count) == 0)) {
    free (p->before);
    p->before = NULL;
  }
}

/* One look, in which "now" is a buffer.  PROOF_APART is no more than a
 * suspicion: others may write there too.
 */
static enum proof_result
look_once (const struct proof *p, struct image *disk, struct image *own,
           uint64_t offset, const void *data, unsigned char *now)
{
  struct error e;

  if (disk->ops->pread (disk, now, p->count, offset, &e) == -1)     /* P2 */
    return PROOF_NONE;
  /* Somebody has changed it, which would be nobody's if it were apart. */
  if (memcmp (now, p->before, p->count) != 0)
    return PROOF_ONE_DISK;
  if (own->ops->pread (own, now, p->count, offset, &e) == -1 ||     /* P3 */
      memcmp (now, data, p->count) != 0)
    return PROOF_NONE;
  return PROOF_APART;
}

enum proof_result
proof_end (struct proof *p, struct image *disk, struct image *own,
           uint64_t offset, const void *data, bool failed)
{
  CLEANUP_FREE unsigned char *before = p->before;
  CLEANUP_FREE unsigned char *now = NULL;
  enum proof_result r = PROOF_APART;
  unsigned i;

  if (before == NULL || failed || (now = malloc (p->count)) == NULL)
    return PROOF_NONE;
  for (i = 0; r == PROOF_APART && i < PROOF_LOOKS; ++i) {           /* P4 */
    if (i > 0 && !patience_sleep (PROOF_PAUSE))
      return PROOF_NONE;
    r = look_once (p, disk, own, offset, data, now);
  }
  return r;
}
