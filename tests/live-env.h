/* SPDX-License-Identifier: BSD-3-Clause */

/* For test programs that start, kill and talk to both servers.
 *
 * The script that runs such a program has written, into a directory, how
 * each server is started: DIR/run-NAME, which listens on DIR/NAME.sock
 * and writes messages to DIR/NAME.log.
 */

#ifndef CBW_LIVE_ENV_H
#define CBW_LIVE_ENV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <libnbd.h>

#include "segment/layout.h"

/* Say what is wrong, and end. */
__attribute__ ((format (printf, 1, 2), noreturn))
extern void live_fail (const char *fmt, ...);

#define REQUIRE(condition, ...)                                         \
  ((condition) ? (void) 0 : live_fail (__VA_ARGS__))

/* What live_fail puts in front of its message, beside the program. */
extern char live_context[64];

struct server {
  char run[256], socket[256], log[256];
  pid_t pid;                    /* 0: not running */
};

extern void server_init (struct server *s, const char *dir, const char *name);

/* Start the server and wait until it talks to clients, which it does when
 * every snapshot is back.
 */
extern void server_start (struct server *s);

/* Start it without waiting; then wait until it talks (true) or has ended. */
extern void server_launch (struct server *s);
extern bool server_ready (struct server *s);

/* Send the signal, and wait until the server has ended; in good order
 * unless it was SIGKILL.
 */
extern void server_stop (struct server *s, int signal);

/* Has it been killed by SIGKILL?  It must not have ended otherwise. */
extern bool server_killed (struct server *s);

/* Wait until it has ended, in good order (true) or killed by SIGKILL. */
extern bool server_await (struct server *s);

/* A connection, or NULL if the server refuses. */
extern struct nbd_handle *live_connect (const struct server *s,
                                        const char *export_name);

/* How many slots, and entries of the snapshot table, are in use? */
extern unsigned live_slots (const struct cbw_map *m);
extern unsigned live_entries (const struct cbw_map *m);

/* Wait until they are not more than that. */
extern void live_wait_slots (const struct cbw_map *m, unsigned nr);
extern void live_wait_entries (const struct cbw_map *m, unsigned nr);

/* Every target file in the directory (NAME.cow) belongs to an entry in
 * use, and no entry is half made.
 */
extern void live_check_targets (const struct cbw_map *m, const char *dir);

/* The server has no target (NAME.cow) or image (NAME.bak) open any more. */
extern void live_check_open_files (const struct server *s);

/* The value of argument "key=...", or the default. */
extern const char *live_arg (char **argv, const char *key,
                             const char *otherwise);
extern uint64_t live_number (char **argv, const char *key,
                             uint64_t otherwise);

extern void live_sleep_us (uint64_t us);

#endif /* CBW_LIVE_ENV_H */
