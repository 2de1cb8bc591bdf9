/* SPDX-License-Identifier: BSD-3-Clause */

/* The control requests of the request list: create, drop, and those of
 * backups.
 */

#ifndef CBW_SERVE_CONTROL_H
#define CBW_SERVE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "below/source.h"
#include "guest/engine.h"
#include "segment/segment.h"

/* Run the request in a slot's buffer, which holds a struct cbw_control
 * that is not trusted, and put the reply there.  Returns 0 or an errno.
 */
extern int serve_create (struct engine *engine, struct segment *segment,
                         const struct source *source, uint32_t owner,
                         bool backup, void *buf);
extern int serve_checkpoint (struct engine *engine, struct segment *segment,
                             const struct source *source, void *buf);
extern int serve_drop (struct engine *engine, struct segment *segment,
                       uint64_t id, void *buf);

extern int serve_job (struct engine *engine, uint64_t id, void *buf);

/* Do not run it, for that reason. */
extern int serve_refuse (const struct error *e, void *buf);

#endif /* CBW_SERVE_CONTROL_H */
