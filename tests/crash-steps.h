/* SPDX-License-Identifier: BSD-3-Clause */

/* What is done to the disk of the crash test: changes, and requests for
 * points, one at a time (crash-steps.c) or many at once (crash-burst.c).
 */

#ifndef CBW_CRASH_STEPS_H
#define CBW_CRASH_STEPS_H

#include <stdint.h>

#include "crash-model.h"
#include "request/client.h"

struct crash_steps {
  uint64_t seed;
  uint64_t changes, flushes, made, dropped, bursts;
};
extern struct crash_steps crash_steps;

extern uint64_t below (uint64_t max);

/* One thing, which has ended. */
extern void step_one (void);

/* Several changes at once, and perhaps a request among them, to their end. */
extern void step_burst (void);

/* The same; the filter is killed meanwhile, and what came of it is not known.
 * No connection is left.
 */
extern void step_burst_killed (void);

/* The guest's connection, and the one that requests are made through. */
extern void steps_connect (void);
extern void steps_disconnect (void);

/* ---- What both files use ---- */

enum op { WRITE, WRITE_FUA, ZERO, TRIM, NR_OPS };

struct change {
  enum op op;
  uint64_t place, count;        /* within one window */
  unsigned char *data;
  int64_t cookie;
};

/* One within a window; its data are to be freed. */
extern struct change change_random (unsigned window);
extern void change_submit (struct change *c);

/* Until it has ended; a trim may have done anything to it, or nothing. */
extern void change_await (struct change *c);

enum request { NOTHING, CHECKPOINT, CREATE, DROP, DROP_KEEP };

/* What to ask for, and of which point; new ones are in the model already. */
extern enum request request_choose (struct crash_point **p);

/* 0, or -1 with the error set. */
extern int request_ask (struct client *client, enum request request,
                        const struct crash_point *p, struct error *e);

/* It was done: so says the model from now on. */
extern void request_answered (enum request request, struct crash_point *p);

/* Where the old data of a snapshot goes. */
extern void point_target (const struct crash_point *p,
                          char path[CBW_TARGET_MAX]);

#endif /* CBW_CRASH_STEPS_H */
