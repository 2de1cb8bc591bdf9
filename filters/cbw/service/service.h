/* SPDX-License-Identifier: BSD-3-Clause */

/* Service: requests that clients put into the slots of the segment.
 *
 * The threads of a pool (pool.h) take slots and read snapshots.  Control
 * requests are run by a crew (utils/crew.h) instead, so that one that hangs
 * holds up nobody.  The watch, a thread of its own which never waits for
 * anything, has the pool grow, takes slots from clients that are gone or
 * stopped, and has the crew look after snapshots: targets that were lost,
 * owners that are gone.
 *
 * Nothing in a slot is trusted.  Its request is copied out once, then
 * checked; the reply goes only into the slot and its buffer.
 */

#ifndef CBW_SERVICE_H
#define CBW_SERVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "guest/engine.h"
#include "segment/segment.h"
#include "segment/slots.h"
#include "service/pool.h"
#include "utils/crew.h"
#include "utils/threads.h"

struct service;

/* A request, as it was when it was looked at. */
struct request {
  uint32_t kind;
  uint32_t owner;               /* of its slot */
  uint64_t snapshot;
  uint64_t offset;
  uint64_t length;
};

/* Control requests that run or wait to at a time: others are refused, so that
 * those which hang do not take all slots.
 */
#define CONTROL_MAX 32

/* A control request in a slot. */
struct control_task {
  struct crew_task task;        /* first */
  unsigned slot;
  struct request rq;
};

/* Something that the watch has the crew do, now and then. */
struct duty {
  struct crew_task task;        /* first */
  void (*run) (struct service *s);
  uint64_t interval, next;      /* ns; the watch's */
  _Atomic (bool) busy;          /* it is being done */
};

#define NR_DUTIES 3

struct service {
  struct engine *engine;
  struct segment *segment;
  struct source source;
  struct source_info info;

  struct pool pool;
  unsigned cursors[THREAD_GROUP_MAX]; /* of its threads: see slot_take */

  struct crew crew;
  struct control_task controls[CBW_NR_SLOTS];
  _Atomic (unsigned) nr_controls;

  struct thread_group watch;    /* one thread */
  pthread_mutex_t watch_lock;   /* for watch_stop */
  pthread_cond_t watch_wake;
  bool watch_stop;
  struct slots_seen seen;       /* the rest is the watch's own */
  uint32_t entered;             /* by guests, into the gate */
  uint64_t next_reap;           /* monotonic ns */
  struct duty duties[NR_DUTIES];
};

/* Of "nr_threads" threads, no more than THREAD_GROUP_MAX; engine, segment,
 * source and info are set.
 */
extern void service_init (struct service *s, unsigned nr_threads);

/* 0, or -1 after log_error; there may be threads then. */
extern int service_start (struct service *s);

/* As in threads.h.  The threads end when they have done what they are doing;
 * control requests that have not begun never will.
 */
extern void service_stop (struct service *s);
extern bool service_join (struct service *s, uint64_t until);
extern void service_free (struct service *s);

/* The last service_join has returned false: say in the log what is stuck, and
 * leave it.
 */
extern void service_leave (struct service *s);

/* ---- Between the files of this module ---- */

/* The watch; as in threads.h, and watch_start returns 0 or an errno. */
extern void watch_init (struct service *s);
extern int watch_start (struct service *s);
extern void watch_stop (struct service *s);
extern bool watch_join (struct service *s, uint64_t until);
extern void watch_free (struct service *s);

#endif /* CBW_SERVICE_H */
