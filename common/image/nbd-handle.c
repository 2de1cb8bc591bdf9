/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <libnbd.h>

#include "clock.h"
#include "nbd-handle.h"
#include "rounding.h"

/* Data in one request, where the server does not say. */
#define PAYLOAD_DEFAULT (UINT32_C (32) << 20)

/* Its last state, which it does not leave.  (To ask for two of those that
 * it goes between, one after the other, tells nothing.)
 */
bool
nbd_handle_ended (struct nbd_handle *nbd)
{
  return nbd_aio_is_dead (nbd) || nbd_aio_is_closed (nbd);
}

struct pollfd
nbd_handle_poll (struct nbd_handle *nbd, int fd)
{
  const unsigned direction = nbd_aio_get_direction (nbd);
  struct pollfd p = { .fd = fd };

  if (direction & LIBNBD_AIO_DIRECTION_READ)
    p.events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE)
    p.events |= POLLOUT;
  return p;
}

/* While libnbd neither waits for a reply nor sends, only we bring it to, so
 * its direction is as it was when we polled.
 */
void
nbd_handle_notify (struct nbd_handle *nbd, const struct pollfd *p)
{
  if ((p->events & POLLOUT) && !(p->revents & POLLIN) &&
      (p->revents & (POLLOUT | POLLERR)))
    nbd_aio_notify_write (nbd);
  else if (p->revents & (POLLIN | POLLHUP | POLLERR))
    nbd_aio_notify_read (nbd);
}

/* Let libnbd connect and negotiate. */
static int
negotiate (struct nbd_handle *nbd, uint64_t until, int cancel,
           struct error *e)
{
  struct pollfd p[2];
  uint64_t now;

  while (!nbd_aio_is_ready (nbd)) {
    now = now_monotonic_ns ();
    if (nbd_handle_ended (nbd))
      return error_set (e, ENOTCONN, "%s", nbd_get_error ());
    if (now >= until)
      return error_set (e, ETIMEDOUT, "the server does not answer");
    p[0] = nbd_handle_poll (nbd, nbd_aio_get_fd (nbd));
    p[1] = (struct pollfd) { .fd = cancel, .events = POLLIN };
    if (poll (p, 2, (int) ((until - now) / NS_PER_MS) + 1) == -1)
      continue;
    if (p[1].revents)
      return error_set (e, ECANCELED, "connecting was given up");
    nbd_handle_notify (nbd, &p[0]);
  }
  return 0;
}

static int
ask (struct nbd_handle *nbd, struct nbd_info *info, struct error *e)
{
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

/* The socket is libnbd's then, whatever comes of it. */
static int
begin (struct nbd_handle *nbd, const char *uri, int fd, struct error *e)
{
  const int r = uri ? nbd_aio_connect_uri (nbd, uri) :
    nbd_aio_connect_socket (nbd, fd);

  return r == -1 ? error_set (e, nbd_get_errno (), "%s", nbd_get_error ()) :
    0;
}

/* A handle that is not connected yet. */
static struct nbd_handle *
new_handle (struct error *e)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd && nbd_set_pread_initialize (nbd, false) != -1 &&
      nbd_set_uri_allow_local_file (nbd, true) != -1 &&
      nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != -1)
    return nbd;
  error_set (e, nbd_get_errno (), "%s", nbd_get_error ());
  nbd_close (nbd);
  return NULL;
}

struct nbd_handle *
nbd_handle_open (const char *uri, int fd, uint64_t until, int cancel,
                 struct nbd_info *info, struct error *e)
{
  struct nbd_handle *nbd = new_handle (e);

  if (nbd == NULL) {
    if (fd >= 0)
      close (fd);
    return NULL;
  }
  if (begin (nbd, uri, fd, e) == -1 ||
      negotiate (nbd, until, cancel, e) == -1 ||
      ask (nbd, info, e) == -1) {
    nbd_handle_close (nbd);
    return NULL;
  }
  return nbd;
}

void
nbd_handle_close (struct nbd_handle *nbd)
{
  if (nbd_aio_is_ready (nbd))
    nbd_aio_disconnect (nbd, 0);
  nbd_close (nbd);
}
