/* SPDX-License-Identifier: BSD-3-Clause */

/* Connects a handle of libnbd without waiting in libnbd, and asks it what the
 * export is: nbd-handle.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <unistd.h>

#include <libnbd.h>

#include "image/nbd/nbd-handle.h"
#include "utils/clock.h"
#include "utils/rounding.h"

/* Data in one request, where the server does not say. */
#define PAYLOAD_DEFAULT (UINT32_C (32) << 20)

/* An export's offsets fit an off_t, with room for rounding them up. */
#define EXPORT_SIZE_MAX (INT64_MAX - (INT64_C (4) << 20))

/* A function of libnbd failed; or libnbd found out by itself, and then it
 * may have no message and no errno.  "num" is for that case.
 */
static int
libnbd_failed (struct error *e, int num, const char *otherwise)
{
  const char *why = nbd_get_error ();
  const int err = nbd_get_errno ();

  return error_set (e, why && err != 0 ? err : num, "%s",
                    why ? why : otherwise);
}

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
      return libnbd_failed (e, ENOTCONN, "the server ended the connection");
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
  const uint64_t size = (uint64_t) nbd_get_size (nbd);
  const int64_t minimum = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  const int64_t maximum = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  /* An error is -1, which is an export of 2^64 - 1 bytes, too; but libnbd
   * has no error for a handle that is connected.
   */
  if (size > EXPORT_SIZE_MAX)
    return error_set (e, EINVAL, "the server says that the export has %"
                      PRIu64 " bytes, which is more than a disk can have",
                      size);
  if (minimum > 1 && (!is_power_of_2 ((uint64_t) minimum) || minimum > 65536))
    return error_set (e, EINVAL, "the server has a minimum block size of %lld "
                      "bytes, which NBD does not allow", (long long) minimum);
  *info = (struct nbd_info) {
    .size = size,
    .minimum_block = minimum > 1 ? (uint32_t) minimum : 1,
    .maximum_payload = PAYLOAD_DEFAULT,
    .read_only = nbd_is_read_only (nbd) != 0,
    .can_flush = nbd_can_flush (nbd) == 1,
    .can_trim = nbd_can_trim (nbd) == 1,
    .can_zero = nbd_can_zero (nbd) == 1,
    .can_fast_zero = nbd_can_fast_zero (nbd) == 1,
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

  return r == -1 ? libnbd_failed (e, EIO, "libnbd cannot connect to it") : 0;
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
  libnbd_failed (e, ENOMEM, "libnbd cannot be set up");
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
