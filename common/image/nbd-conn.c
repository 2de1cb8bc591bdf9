/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "nbd-conn.h"
#include "rounding.h"

/* Nothing came for so long while requests waited: the server is taken for
 * lost, so that nobody waits for ever.  A flush may take long.
 */
#define SILENCE_MS (300 * 1000)

/* A request in flight; on the stack of the thread that waits for it. */
struct command {
  struct command *next;         /* of those that wait, last come first */
  struct nbd_conn *conn;
  pthread_t thread;
  pthread_cond_t wake;          /* done, or to be the leader */
  _Atomic (bool) done;
  int err;
};

/* Locks: libnbd has one of its own around each of its functions, and holds
 * it while it calls "completed"; "lock" comes after that one.  So no
 * function of libnbd is called with "lock" held.
 */
struct nbd_conn {
  struct nbd_handle *nbd;
  int fd;                       /* the socket: a duplicate of libnbd's, which
                                 * closes its own when it likes */
  int kick;                     /* eventfd: wakes the leader */
  _Atomic (uint64_t) started, ended; /* requests */

  pthread_mutex_t lock;         /* for the rest */
  struct command *waiting;      /* but for the leader */
  struct command *leader;       /* or NULL */
};

static void
kick (struct nbd_conn *c)
{
  const uint64_t one = 1;

  if (write (c->kick, &one, sizeof one) == -1)
    return;                     /* it is as high as can be: that will do */
}

/* libnbd has the reply to a command, or the connection has ended. */
static int
completed (void *opaque, int *error)
{
  struct command *cmd = opaque;
  struct nbd_conn *c = cmd->conn;

  LOCK_FOR_SCOPE (&c->lock);
  cmd->err = *error;
  atomic_store (&cmd->done, true);
  if (c->leader != cmd)
    pthread_cond_signal (&cmd->wake);
  else if (!pthread_equal (cmd->thread, pthread_self ()))
    kick (c);                   /* it sleeps in poll */
  return 1;                     /* libnbd may forget the command */
}

/* Move everybody's data until our own command is done. */
static void
lead (struct nbd_conn *c, const struct command *mine)
{
  struct pollfd p[2];
  uint64_t ignored;
  int r;

  while (!atomic_load (&mine->done)) {
    p[0] = nbd_handle_poll (c->nbd, c->fd);
    p[1] = (struct pollfd) { .fd = c->kick, .events = POLLIN };
    r = poll (p, 2, SILENCE_MS);
    if (r == 0)
      shutdown (c->fd, SHUT_RDWR); /* which makes it readable */
    if (r <= 0)
      continue;
    if ((p[1].revents & POLLIN) &&
        read (c->kick, &ignored, sizeof ignored) == -1 && errno != EAGAIN)
      shutdown (c->fd, SHUT_RDWR); /* cannot be */
    if (p[0].revents)
      nbd_handle_notify (c->nbd, &p[0]);
  }
}

static void
forget (struct nbd_conn *c, const struct command *cmd)
{
  struct command **p;

  for (p = &c->waiting; *p != cmd; p = &(*p)->next)
    ;
  *p = cmd->next;
}

/* Some other thread leads from now on, if one is left that waits. */
static void
resign (struct nbd_conn *c)
{
  struct command *next;

  c->leader = NULL;
  for (next = c->waiting; next; next = next->next)
    if (!atomic_load (&next->done)) {
      pthread_cond_signal (&next->wake);
      return;
    }
}

static void
wait_for (struct nbd_conn *c, struct command *cmd)
{
  LOCK_FOR_SCOPE (&c->lock);
  cmd->next = c->waiting;
  c->waiting = cmd;
  while (!atomic_load (&cmd->done) && c->leader)
    pthread_cond_wait (&cmd->wake, &c->lock);
  forget (c, cmd);
  if (atomic_load (&cmd->done)) {
    /* Woken to lead, but meanwhile another led, and it is done: nobody may
     * have been told since.
     */
    if (c->leader == NULL)
      resign (c);
    return;
  }

  c->leader = cmd;
  pthread_mutex_unlock (&c->lock);
  lead (c, cmd);
  pthread_mutex_lock (&c->lock);
  resign (c);
}

static void
command_init (struct nbd_conn *c, struct command *cmd)
{
  *cmd = (struct command) { .conn = c, .thread = pthread_self () };
  pthread_cond_init (&cmd->wake, NULL);
  atomic_fetch_add (&c->started, 1);
}

/* The command was handed to libnbd, which gave it a cookie, or not (-1).
 * Wait for the reply.
 */
static int
finish (struct nbd_conn *c, struct command *cmd, int64_t cookie)
{
  if (cookie == -1) {
    cmd->err = nbd_handle_ended (c->nbd) ? ENOTCONN : nbd_get_errno ();
    if (cmd->err == 0)
      cmd->err = EIO;
  }
  else {
    /* Not all of it could be sent: who polls now must know. */
    if (!atomic_load (&cmd->done) &&
        (nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE))
      kick (c);
    wait_for (c, cmd);
  }
  pthread_cond_destroy (&cmd->wake);
  atomic_fetch_add (&c->ended, 1);
  return cmd->err;
}

#define COMPLETION(cmd)                                                 \
  (nbd_completion_callback) { .callback = completed, .user_data = (cmd) }

int
nbd_conn_pread (struct nbd_conn *c, void *buf, size_t count, uint64_t offset)
{
  struct command cmd;

  command_init (c, &cmd);
  return finish (c, &cmd, nbd_aio_pread (c->nbd, buf, count, offset,
                                         COMPLETION (&cmd), 0));
}

int
nbd_conn_pwrite (struct nbd_conn *c, const void *buf, size_t count,
                 uint64_t offset)
{
  struct command cmd;

  command_init (c, &cmd);
  return finish (c, &cmd, nbd_aio_pwrite (c->nbd, buf, count, offset,
                                          COMPLETION (&cmd), 0));
}

int
nbd_conn_zero (struct nbd_conn *c, uint64_t count, uint64_t offset)
{
  struct command cmd;

  command_init (c, &cmd);
  return finish (c, &cmd, nbd_aio_zero (c->nbd, count, offset,
                                        COMPLETION (&cmd), 0));
}

int
nbd_conn_trim (struct nbd_conn *c, uint64_t count, uint64_t offset)
{
  struct command cmd;

  command_init (c, &cmd);
  return finish (c, &cmd, nbd_aio_trim (c->nbd, count, offset,
                                        COMPLETION (&cmd), 0));
}

int
nbd_conn_flush (struct nbd_conn *c)
{
  struct command cmd;

  command_init (c, &cmd);
  return finish (c, &cmd, nbd_aio_flush (c->nbd, COMPLETION (&cmd), 0));
}

struct first_extent {
  uint64_t offset, length;
  uint32_t type;
};

static int
add_extents (void *opaque, const char *context, uint64_t offset,
             uint32_t *entries, size_t nr, int *error)
{
  struct first_extent *first = opaque;
  size_t i;

  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      offset != first->offset || first->length > 0)
    return 0;
  for (i = 0; i + 1 < nr && (i == 0 || entries[i + 1] == first->type);
       i += 2) {
    first->type = entries[i + 1];
    first->length += entries[i];
  }
  return 0;
}

int
nbd_conn_extent (struct nbd_conn *c, uint64_t count, uint64_t offset,
                 uint64_t *length, bool *zero)
{
  struct first_extent first = { .offset = offset };
  struct command cmd;
  int r;

  command_init (c, &cmd);
  r = finish (c, &cmd, nbd_aio_block_status (c->nbd, count, offset,
                (nbd_extent_callback) {
                  .callback = add_extents, .user_data = &first
                }, COMPLETION (&cmd), 0));
  if (r != 0)
    return r;
  if (first.length == 0)
    return EPROTO;
  *length = min_u64 (first.length, count);
  *zero = first.type & LIBNBD_STATE_ZERO;
  return 0;
}

unsigned
nbd_conn_load (const struct nbd_conn *c)
{
  const uint64_t ended = atomic_load (&c->ended);

  return (unsigned) (atomic_load (&c->started) - ended);
}

void
nbd_conn_abort (struct nbd_conn *c)
{
  shutdown (c->fd, SHUT_RDWR);
}

bool
nbd_conn_alive (struct nbd_conn *c)
{
  struct pollfd p = { .fd = c->fd, .events = POLLIN | POLLRDHUP };
  uint64_t started;

  if (nbd_handle_ended (c->nbd))
    return false;
  /* With requests in flight a reply may be there to read.  With none from
   * before to after the look, only the end is.
   */
  started = atomic_load (&c->started);
  return started != atomic_load (&c->ended) || poll (&p, 1, 0) == 0 ||
    started != atomic_load (&c->started);
}

void
nbd_conn_close (struct nbd_conn *c)
{
  nbd_handle_close (c->nbd);
  if (c->fd >= 0)
    close (c->fd);
  if (c->kick >= 0)
    close (c->kick);
  pthread_mutex_destroy (&c->lock);
  free (c);
}

struct nbd_conn *
nbd_conn_open (const char *uri, int fd, uint64_t until, int cancel,
               struct nbd_info *info, struct error *e)
{
  struct nbd_handle *nbd = nbd_handle_open (uri, fd, until, cancel, info, e);
  struct nbd_conn *c;

  if (nbd == NULL)
    return NULL;
  c = calloc (1, sizeof *c);
  if (c == NULL) {
    nbd_handle_close (nbd);
    error_set_errno (e, ENOMEM, "connection");
    return NULL;
  }
  c->nbd = nbd;
  pthread_mutex_init (&c->lock, NULL);
  c->fd = fcntl (nbd_aio_get_fd (nbd), F_DUPFD_CLOEXEC, 0);
  c->kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->fd == -1 || c->kick == -1) {
    error_set_errno (e, errno, "connection");
    nbd_conn_close (c);
    return NULL;
  }
  return c;
}
