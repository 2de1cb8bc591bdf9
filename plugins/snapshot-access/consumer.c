/* SPDX-License-Identifier: BSD-3-Clause */

/* Reading and discarding, for shm-backend.c: the lock that only one client of
 * a snapshot holds, and the discards.
 */

#include <config.h>

#include <stdbool.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "consumer.h"
#include "request/request.h"
#include "segment/liveness.h"
#include "utils/cleanup.h"
#include "utils/clock.h"

/* How much is discarded at once. */
#define DISCARD_BATCH (UINT64_C (1) << 20)

/* How long a client waits for another to go. */
#define CONSUMER_WAIT NS_PER_SEC

/* Snapshot entries that a connection of ours reads. */
static uint64_t consumed;
static pthread_mutex_t consumed_lock = PTHREAD_MUTEX_INITIALIZER;

/* Become the one client that reads the snapshot and discards it: of this
 * process, then of all.
 */
static bool
take_consumer (const struct client *client, unsigned index)
{
  const uint64_t bit = UINT64_C (1) << index;

  LOCK_FOR_SCOPE (&consumed_lock);
  if ((consumed & bit) ||
      liveness_take_consumer (client->segment.fd, index) != 1)
    return false;
  consumed |= bit;
  return true;
}

int
consumer_start (struct consumer *c, struct client *client,
                const struct snapshot_info *info)
{
  const uint64_t until = now_monotonic_ns () + CONSUMER_WAIT;
  bool taken;

  /* Of a client that has just gone (nbdinfo, say) the connection may not
   * have ended yet.
   */
  while (!(taken = take_consumer (client, info->index)) &&
         now_monotonic_ns () < until &&
         nbdkit_nanosleep (0, 20 * NS_PER_MS) == 0)
    ;
  if (!taken) {
    nbdkit_error ("snapshot \"%s\" is being read by another client with "
                  "discard=read; only one can", info->name);
    return -1;
  }
  c->client = client;
  c->id = info->id;
  c->index = info->index;
  coverage_init (&c->coverage, info->size,
                 client->segment.map.geometry.cluster_size, DISCARD_BATCH);
  return 0;
}

int
consumer_has_read (struct consumer *c, uint32_t count, uint64_t offset)
{
  uint64_t from, to;

  if (coverage_add (&c->coverage, offset, offset + count, &from, &to) == -1 ||
      from == to)
    return 0;
  return request_discard (c->client, c->id, to - from, from);
}

/* Discard what was read and is still due. */
static void
discard_rest (struct consumer *c)
{
  uint64_t from, to;

  while (coverage_rest (&c->coverage, &from, &to))
    if (request_discard (c->client, c->id, to - from, from) != 0)
      break;                    /* the snapshot or the filter is gone */
}

void
consumer_stop (struct consumer *c)
{
  discard_rest (c);
  coverage_destroy (&c->coverage);
  LOCK_FOR_SCOPE (&consumed_lock);
  consumed &= ~(UINT64_C (1) << c->index);
  liveness_release_consumer (c->client->segment.fd, c->index);
}
