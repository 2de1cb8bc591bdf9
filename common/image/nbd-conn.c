/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "clock.h"
#include "nbd-conn.h"
#include "rounding.h"

/* Nothing came for so long while requests waited: the server is taken for
 * lost, so that nobody waits for ever.  A flush may take long.
 */
#define SILENCE_MS (300 * 1000)

/* Data in one request, where the server does not say. */
#define PAYLOAD_DEFAULT (UINT32_C (32) << 20)

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

/* Its last state, which it does not leave.  (To ask for two of those that
 * it goes between, one after the other, tells nothing.)
 */
static bool
has_ended (const struct nbd_conn *c)
{
  return nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd);
}

/* What the leader waits for, and for how long. */
static struct pollfd
poll_socket (struct nbd_conn *c)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);
  struct pollfd p = { .fd = c->fd };

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    p.events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    p.events |= POLLOUT;
  return p;
}

/* The socket is ready: let libnbd read or write.  While it does neither
 * wait for a reply nor send, only we bring it to, so its direction is as
 * it was when we polled.
 */
static void
notify (struct nbd_conn *c, const struct pollfd *p)
{
  if ((p->events & POLLOUT) && !(p->revents & POLLIN) &&
      (p->revents & (POLLOUT | POLLERR)))
    nbd_aio_notify_write (c->nbd);
  else if (p->revents & (POLLIN | POLLHUP | POLLERR))
    nbd_aio_notify_read (c->nbd);
}

/* Move everybody's data until our own command is done. */
static void
lead (struct nbd_conn *c, const struct command *mine)
{
  struct pollfd p[2];
  uint64_t ignored;
  int r;

  while (!atomic_load (&mine->done)) {
    p[0] = poll_socket (c);
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
      notify (c, &p[0]);
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
    cmd->err = has_ended (c) ? ENOTCONN : nbd_get_errno ();
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
                 uint64_t *length, uint32_t *type)
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
  *type = first.type;
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

  if (has_ended (c))
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
  if (c->nbd) {
    if (nbd_aio_is_ready (c->nbd))
      nbd_aio_disconnect (c->nbd, 0); /* sent as far as can be done at once */
    nbd_close (c->nbd);
  }
  if (c->fd >= 0)
    close (c->fd);
  if (c->kick >= 0)
    close (c->kick);
  pthread_mutex_destroy (&c->lock);
  free (c);
}

/* Let libnbd connect and negotiate. */
static int
negotiate (struct nbd_conn *c, uint64_t until, int cancel, struct error *e)
{
  struct pollfd p[2];
  uint64_t now;

  while (!nbd_aio_is_ready (c->nbd)) {
    now = now_monotonic_ns ();
    if (nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd))
      return error_set (e, ENOTCONN, "%s", nbd_get_error ());
    if (now >= until)
      return error_set (e, ETIMEDOUT, "the server does not answer");
    c->fd = nbd_aio_get_fd (c->nbd);
    p[0] = poll_socket (c);
    c->fd = -1;
    p[1] = (struct pollfd) { .fd = cancel, .events = POLLIN };
    if (poll (p, 2, (int) ((until - now) / NS_PER_MS) + 1) == -1)
      continue;
    if (p[1].revents)
      return error_set (e, ECANCELED, "connecting was given up");
    notify (c, &p[0]);
  }
  return 0;
}

static int
ask (struct nbd_conn *c, struct nbd_info *info, struct error *e)
{
  struct nbd_handle *nbd = c->nbd;
  const int64_t size = nbd_get_size (nbd);
  const int64_t minimum = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  const int64_t maximum = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  if (size < 0)
    return error_set (e, EINVAL, "%s", nbd_get_error ());
  if (minimum > 1 && (!is_power_of_2 ((uint64_t) minimum) || minimum > 65536))
    return error_set (e, EINVAL, "the server has a minimum block size of %lld "
                      "bytes, which NBD does not allow", (long long) minimum);
  *info = (struct nbd_info) {
    .size = (uint64_t) size,
    .minimum_block = minimum > 1 ? (uint32_t) minimum : 1,
    .maximum_payload = PAYLOAD_DEFAULT,
    .read_only = nbd_is_read_only (nbd) != 0,
    .can_flush = nbd_can_flush (nbd) == 1,
    .can_trim = nbd_can_trim (nbd) == 1,
    .can_zero = nbd_can_zero (nbd) == 1,
    .can_extents =
      nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
    .multi_conn = nbd_can_multi_conn (nbd) == 1,
  };
  if (maximum >= 4096 && maximum < PAYLOAD_DEFAULT)
    info->maximum_payload = (uint32_t) maximum & ~(info->minimum_block - 1);
  return 0;
}

static int
begin (struct nbd_handle *nbd, const char *uri, int *fd)
{
  const int socket = *fd;

  if (uri)
    return nbd_aio_connect_uri (nbd, uri);
  *fd = -1;                     /* libnbd's, whatever comes of it */
  return nbd_aio_connect_socket (nbd, socket);
}

struct nbd_conn *
nbd_conn_open (const char *uri, int fd, uint64_t until, int cancel,
               struct nbd_info *info, struct error *e)
{
  struct nbd_conn *c = calloc (1, sizeof *c);

  if (c == NULL) {
    error_set_errno (e, ENOMEM, "connection");
    if (fd >= 0)
      close (fd);
    return NULL;
  }
  c->fd = -1;
  c->kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  pthread_mutex_init (&c->lock, NULL);
  c->nbd = nbd_create ();
  if (c->nbd == NULL || c->kick == -1) {
    error_set_errno (e, errno, "connection");
    goto fail;
  }
  if (nbd_set_pread_initialize (c->nbd, false) == -1 ||
      nbd_set_uri_allow_local_file (c->nbd, true) == -1 ||
      nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1 ||
      begin (c->nbd, uri, &fd) == -1) {
    error_set (e, nbd_get_errno (), "%s", nbd_get_error ());
    goto fail;
  }
  if (negotiate (c, until, cancel, e) == -1 || ask (c, info, e) == -1)
    goto fail;
  c->fd = fcntl (nbd_aio_get_fd (c->nbd), F_DUPFD_CLOEXEC, 0);
  if (c->fd == -1) {
    error_set_errno (e, errno, "connection");
    goto fail;
  }
  return c;

 fail:
  if (fd >= 0)
    close (fd);
  nbd_conn_close (c);
  return NULL;
}
