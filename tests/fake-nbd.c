/* SPDX-License-Identifier: BSD-3-Clause */

/* The NBD server of fake-nbd.h: the newstyle handshake, and replies in any
 * shape that a test asks for.
 */

#include <config.h>

#include <endian.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake-nbd.h"
#include "nbd-env.h"
#include "unit.h"

#define MAX_CONNECTIONS 256
#define CONTEXT_ID 77

enum { OPT_ABORT = 2, OPT_GO = 7, OPT_STRUCTURED = 8, OPT_SET_META = 10 };
enum { CHUNK_NONE = 0, CHUNK_DATA = 1, CHUNK_HOLE = 2, CHUNK_STATUS = 5 };

struct fake_private {
  int listener, stop;           /* stop: eventfd */
  pthread_t acceptor;
  pthread_t threads[MAX_CONNECTIONS];
};

struct connection {
  struct fake *fake;
  int fd;
};

/* -1: the client has gone, or the server is stopped. */
static int
receive (const struct fake *f, int fd, void *buf, size_t count)
{
  struct pollfd p[2] = {
    { .fd = fd, .events = POLLIN },
    { .fd = f->private->stop, .events = POLLIN },
  };
  char *to = buf;
  ssize_t r;

  for (; count > 0; count -= (size_t) r, to += r) {
    if (poll (p, 2, -1) == -1 || p[1].revents)
      return -1;
    r = recv (fd, to, count, 0);
    if (r <= 0)
      return -1;
  }
  return 0;
}

static void
transmit (int fd, const void *buf, size_t count)
{
  const char *from = buf;
  ssize_t r;

  for (; count > 0; count -= (size_t) r, from += r) {
    r = send (fd, from, count, MSG_NOSIGNAL);
    if (r <= 0)
      return;                   /* the next receive will tell */
  }
}

/* Numbers as the protocol has them, in a buffer that grows. */
struct message {
  unsigned char bytes[64];
  size_t n;
};

static void
put (struct message *m, unsigned size, uint64_t value)
{
  const uint64_t big = htobe64 (value);

  memcpy (m->bytes + m->n, (const char *) &big + 8 - size, size);
  m->n += size;
}

static uint64_t
get (const unsigned char *p, unsigned size)
{
  uint64_t value = 0;

  while (size-- > 0)
    value = value << 8 | *p++;
  return value;
}

/* ---- Replies ---- */

void
fake_simple (struct fake_request *rq, uint32_t error)
{
  struct message m = { .n = 0 };

  put (&m, 4, 0x67446698);
  put (&m, 4, error);
  put (&m, 8, rq->cookie);
  transmit (rq->fd, m.bytes, m.n);
}

static void
chunk (struct fake_request *rq, struct message *m, bool done, unsigned type,
       uint32_t length)
{
  put (m, 4, 0x668e33ef);
  put (m, 2, done);
  put (m, 2, type);
  put (m, 8, rq->cookie);
  put (m, 4, length);
}

void
fake_none (struct fake_request *rq)
{
  struct message m = { .n = 0 };

  chunk (rq, &m, true, CHUNK_NONE, 0);
  transmit (rq->fd, m.bytes, m.n);
}

void
fake_data (struct fake_request *rq, bool done, uint64_t offset,
           uint32_t count)
{
  struct message m = { .n = 0 };

  chunk (rq, &m, done, CHUNK_DATA, 8 + count);
  put (&m, 8, offset);
  transmit (rq->fd, m.bytes, m.n);
  transmit (rq->fd, rq->fake->store + offset % FAKE_SIZE, count);
}

void
fake_hole (struct fake_request *rq, bool done, uint64_t offset,
           uint32_t count)
{
  struct message m = { .n = 0 };

  chunk (rq, &m, done, CHUNK_HOLE, 12);
  put (&m, 8, offset);
  put (&m, 4, count);
  transmit (rq->fd, m.bytes, m.n);
}

void
fake_status (struct fake_request *rq, unsigned n, const uint32_t *pairs)
{
  struct message m = { .n = 0 };
  unsigned i;

  chunk (rq, &m, true, CHUNK_STATUS, 4 + 8 * n);
  put (&m, 4, CONTEXT_ID);
  transmit (rq->fd, m.bytes, m.n);
  for (i = 0; i < 2 * n; ++i) {
    m.n = 0;
    put (&m, 4, pairs[i]);
    transmit (rq->fd, m.bytes, m.n);
  }
}

void
fake_hang (struct fake_request *rq)
{
  struct pollfd p[2] = {
    { .fd = rq->fd, .events = POLLRDHUP },
    { .fd = rq->fake->private->stop, .events = POLLIN },
  };

  atomic_store (&rq->fake->hanging, true);
  poll (p, 2, -1);
}

void
fake_serve (struct fake_request *rq)
{
  unsigned char *store = rq->fake->store;

  switch (rq->type) {
  case FAKE_READ:
    fake_data (rq, true, rq->offset, rq->count);
    return;
  case FAKE_STATUS:
    fake_status (rq, 1, (const uint32_t[]) { rq->count, 0 });
    return;
  case FAKE_WRITE:
    memcpy (store + rq->offset, rq->data, rq->count);
    break;
  case FAKE_ZERO:
    memset (store + rq->offset, 0, rq->count);
    break;
  default:
    break;
  }
  fake_simple (rq, 0);
}

/* ---- Connections ---- */

static void
option_reply (int fd, uint32_t option, uint32_t type, const void *data,
              uint32_t length)
{
  struct message m = { .n = 0 };

  put (&m, 8, UINT64_C (0x3e889045565a9));
  put (&m, 4, option);
  put (&m, 4, type);
  put (&m, 4, length);
  transmit (fd, m.bytes, m.n);
  transmit (fd, data, length);
}

/* Answer one option.  1: it was GO; -1: the client has gone. */
static int
negotiate_option (const struct fake *f, int fd)
{
  static const char context[] = "base:allocation";
  unsigned char head[16], data[4096];
  struct message m = { .n = 0 };
  uint32_t option, length;

  if (receive (f, fd, head, sizeof head) == -1)
    return -1;
  option = (uint32_t) get (head + 8, 4);
  length = (uint32_t) get (head + 12, 4);
  CHECK (length <= sizeof data);
  if (receive (f, fd, data, length) == -1)
    return -1;
  switch (option) {
  case OPT_GO:
    put (&m, 2, 0);
    put (&m, 8, f->size);
    put (&m, 2, 1 | f->flags);
    option_reply (fd, option, 3, m.bytes, (uint32_t) m.n);
    option_reply (fd, option, 1, NULL, 0);
    return 1;
  case OPT_SET_META:
    put (&m, 4, CONTEXT_ID);
    memcpy (m.bytes + m.n, context, sizeof context - 1);
    if (!f->no_status)
      option_reply (fd, option, 4, m.bytes,
                    (uint32_t) (m.n + sizeof context - 1));
    option_reply (fd, option, 1, NULL, 0);
    return 0;
  case OPT_STRUCTURED:
    option_reply (fd, option, 1, NULL, 0);
    return 0;
  case OPT_ABORT:
    return -1;
  default:
    option_reply (fd, option, UINT32_C (0x80000001), NULL, 0);
    return 0;
  }
}

static int
negotiate (const struct fake *f, int fd)
{
  unsigned char flags[4];
  struct message m = { .n = 0 };
  int r = 0;

  put (&m, 8, UINT64_C (0x4e42444d41474943));
  put (&m, 8, UINT64_C (0x49484156454f5054));
  put (&m, 2, 3);
  transmit (fd, m.bytes, m.n);
  if (receive (f, fd, flags, sizeof flags) == -1)
    return -1;
  while (r == 0)
    r = negotiate_option (f, fd);
  return r;
}

static int
serve_request (struct fake *f, int fd)
{
  struct fake_request rq = { .fake = f, .fd = fd };
  unsigned char head[28], *data = NULL;

  if (receive (f, fd, head, sizeof head) == -1)
    return -1;
  rq.flags = (uint16_t) get (head + 4, 2);
  rq.type = (enum fake_type) get (head + 6, 2);
  rq.cookie = get (head + 8, 8);
  rq.offset = get (head + 16, 8);
  rq.count = (uint32_t) get (head + 24, 4);
  CHECK (rq.type < FAKE_TYPES);
  if (rq.type == FAKE_DISC)
    return -1;
  if (rq.type == FAKE_WRITE) {
    rq.data = data = malloc (rq.count);
    if (receive (f, fd, data, rq.count) == -1) {
      free (data);
      return -1;
    }
  }
  atomic_fetch_add (&f->requests[rq.type], 1);
  f->handle (&rq);
  free (data);
  return 0;
}

static void *
serve_connection (void *opaque)
{
  struct connection *conn = opaque;
  struct fake *f = conn->fake;
  char byte;

  if (f->mute)
    while (receive (f, conn->fd, &byte, 1) == 0)
      ;
  else if (negotiate (f, conn->fd) == 1)
    while (serve_request (f, conn->fd) == 0)
      ;
  close (conn->fd);
  free (conn);
  return NULL;
}

static void *
accept_connections (void *opaque)
{
  struct fake *f = opaque;
  struct fake_private *private = f->private;
  struct pollfd p[2] = {
    { .fd = private->listener, .events = POLLIN },
    { .fd = private->stop, .events = POLLIN },
  };
  struct connection *conn;

  while (poll (p, 2, -1) > 0 && !p[1].revents) {
    conn = malloc (sizeof *conn);
    *conn = (struct connection) {
      .fake = f, .fd = accept (private->listener, NULL, NULL)
    };
    CHECK (conn->fd != -1 && f->connections < MAX_CONNECTIONS);
    CHECK (pthread_create (&private->threads[f->connections], NULL,
                           serve_connection, conn) == 0);
    atomic_fetch_add (&f->connections, 1);
  }
  return NULL;
}

struct fake *
fake_start (void (*handle) (struct fake_request *),
            void (*configure) (struct fake *))
{
  struct fake *f = calloc (1, sizeof *f);
  struct fake_private *private = calloc (1, sizeof *private);
  struct sockaddr_un a = { .sun_family = AF_UNIX };
  size_t i;

  f->handle = handle ? handle : fake_serve;
  f->size = FAKE_SIZE;
  f->flags = FAKE_CAN_ALL;
  f->store = malloc (FAKE_SIZE);
  for (i = 0; i < FAKE_SIZE; ++i)
    f->store[i] = (unsigned char) (i * 7 + i / 251 + 1);
  f->private = private;
  if (configure)
    configure (f);

  CHECK (strlen (nbd_env.path) < sizeof a.sun_path);
  strcpy (a.sun_path, nbd_env.path);
  private->stop = eventfd (0, EFD_CLOEXEC);
  private->listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK (bind (private->listener, (const struct sockaddr *) &a,
               sizeof a) == 0 && listen (private->listener, 16) == 0);
  CHECK (pthread_create (&private->acceptor, NULL, accept_connections,
                         f) == 0);
  return f;
}

void
fake_stop (struct fake *f)
{
  struct fake_private *private = f->private;
  const uint64_t one = 1;
  unsigned i;

  CHECK (write (private->stop, &one, sizeof one) == sizeof one);
  CHECK (pthread_join (private->acceptor, NULL) == 0);
  for (i = 0; i < f->connections; ++i)
    CHECK (pthread_join (private->threads[i], NULL) == 0);
  close (private->listener);
  close (private->stop);
  unlink (nbd_env.path);
  free (private);
  free (f->store);
  free (f);
}
