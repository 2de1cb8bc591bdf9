/* SPDX-License-Identifier: BSD-3-Clause */

/* The requests over a connection, and its beginning and end: nbd-conn.h. */

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

#include "image/nbd/nbd-command.h"
#include "image/nbd/nbd-conn.h"
#include "image/nbd/nbd-cover.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* A read in flight, and what its reply has brought. */
struct read {
  struct nbd_conn *conn;
  struct nbd_cover cover;
};

/* libnbd has put a chunk of the reply into the buffer.  Called by the leader,
 * with libnbd's lock.
 */
static int
received (void *opaque, const void *buf, size_t count, uint64_t offset,
          unsigned status, int *error)
{
  struct read *rd = opaque;

  (void) buf;
  if (status == LIBNBD_READ_ERROR || nbd_cover_add (&rd->cover, offset, count))
    return 0;
  *error = EPROTO;
  nbd_conn_abort (rd->conn);    /* it may go on sending for ever */
  return -1;
}

/* A reply that libnbd calls a success need not have brought every byte, and
 * then the buffer has what was there before.
 */
int
nbd_conn_pread (struct nbd_conn *c, void *buf, size_t count, uint64_t offset)
{
  struct nbd_command cmd;
  struct read rd;
  int64_t cookie;
  int r;

  rd.conn = c;
  nbd_cover_init (&rd.cover, offset, count);
  nbd_command_init (c, &cmd);
  cookie = nbd_aio_pread_structured (c->nbd, buf, count, offset,
                                     (nbd_chunk_callback) {
                                       .callback = received,
                                       .user_data = &rd
                                     }, NBD_COMPLETION (&cmd), 0);
  r = nbd_command_finish (c, &cmd, cookie);
  if (r == 0 && !nbd_cover_is_whole (&rd.cover)) {
    nbd_conn_abort (c);
    r = EPROTO;
  }
  return r;
}

int
nbd_conn_pwrite (struct nbd_conn *c, const void *buf, size_t count,
                 uint64_t offset)
{
  struct nbd_command cmd;
  int64_t cookie;

  nbd_command_init (c, &cmd);
  cookie = nbd_aio_pwrite (c->nbd, buf, count, offset, NBD_COMPLETION (&cmd),
                           0);
  return nbd_command_finish (c, &cmd, cookie);
}

int
nbd_conn_zero (struct nbd_conn *c, uint64_t count, uint64_t offset, bool fast)
{
  struct nbd_command cmd;
  int64_t cookie;

  nbd_command_init (c, &cmd);
  cookie = nbd_aio_zero (c->nbd, count, offset, NBD_COMPLETION (&cmd),
                         fast ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
  return nbd_command_finish (c, &cmd, cookie);
}

int
nbd_conn_trim (struct nbd_conn *c, uint64_t count, uint64_t offset)
{
  struct nbd_command cmd;
  int64_t cookie;

  nbd_command_init (c, &cmd);
  cookie = nbd_aio_trim (c->nbd, count, offset, NBD_COMPLETION (&cmd), 0);
  return nbd_command_finish (c, &cmd, cookie);
}

int
nbd_conn_flush (struct nbd_conn *c)
{
  struct nbd_command cmd;
  int64_t cookie;

  nbd_command_init (c, &cmd);
  cookie = nbd_aio_flush (c->nbd, NBD_COMPLETION (&cmd), 0);
  return nbd_command_finish (c, &cmd, cookie);
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
  struct nbd_command cmd;
  int64_t cookie;
  int r;

  nbd_command_init (c, &cmd);
  cookie = nbd_aio_block_status (c->nbd, count, offset,
                                 (nbd_extent_callback) {
                                   .callback = add_extents,
                                   .user_data = &first
                                 }, NBD_COMPLETION (&cmd), 0);
  r = nbd_command_finish (c, &cmd, cookie);
  if (r != 0)
    return r;
  if (first.length == 0)
    return EPROTO;
  *length = min_u64 (first.length, count);
  *zero = first.type & LIBNBD_STATE_ZERO;
  return 0;
}

const char *
nbd_conn_text (int err, char text[NBD_CONN_TEXT_MAX])
{
  if (err == ENOTCONN)
    return "the connection to the server was lost";
  if (err == EPROTO)
    return "the server breaks the NBD protocol: its reply does not cover "
      "what it was asked for, every byte once";
  return strerror_r (err, text, NBD_CONN_TEXT_MAX);
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
