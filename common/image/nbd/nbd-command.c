/* SPDX-License-Identifier: BSD-3-Clause */

/* How the threads that wait for replies over one connection take turns at
 * receiving them: the leader of nbd-conn.h, and the time limit of each
 * request.  docs/correctness.md, section 13, argues that nobody is forgotten.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "image/nbd/nbd-command.h"
#include "utils/cleanup.h"
#include "utils/threads.h"

/* A flush may take long. */
uint64_t nbd_conn_patience_ns = 300 * NS_PER_SEC;

/* After the end of a request's time the connection is shut down, and all
 * requests end at once.  How long until that is tried again, to be safe.
 */
#define AGAIN_NS NS_PER_SEC

static void
kick (struct nbd_conn *c)
{
  const uint64_t one = 1;

  if (write (c->kick, &one, sizeof one) == -1)
    return;                     /* it is as high as can be: that will do */
}

int
nbd_command_completed (void *opaque, int *error)
{
  struct nbd_command *cmd = opaque;
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

/* Is the command's time over?  Then end the connection, and all requests
 * over it.  Returns the moment until which its thread may wait now.
 */
static uint64_t
check_time (struct nbd_conn *c, struct nbd_command *cmd)
{
  const uint64_t now = now_monotonic_ns ();

  if (now >= cmd->until) {
    nbd_conn_abort (c);         /* which makes the socket readable */
    cmd->until = now + AGAIN_NS;
  }
  return cmd->until;
}

/* Move everybody's data until our own command is done. */
static void
lead (struct nbd_conn *c, struct nbd_command *mine)
{
  struct pollfd p[2];
  uint64_t ignored, until;

  while (!atomic_load (&mine->done)) {
    until = check_time (c, mine);
    p[0] = nbd_handle_poll (c->nbd, c->fd);
    p[1] = (struct pollfd) { .fd = c->kick, .events = POLLIN };
    if (poll (p, 2, clock_ms_until (until)) <= 0)
      continue;
    if ((p[1].revents & POLLIN) &&
        read (c->kick, &ignored, sizeof ignored) == -1 && errno != EAGAIN)
      shutdown (c->fd, SHUT_RDWR); /* cannot be */
    if (p[0].revents)
      nbd_handle_notify (c->nbd, &p[0]);
  }
}

static void
forget_command (struct nbd_conn *c, const struct nbd_command *cmd)
{
  struct nbd_command **p;

  for (p = &c->waiting; *p != cmd; p = &(*p)->next)
    ;
  *p = cmd->next;
}

/* Some other thread leads from now on, if one is left that waits. */
static void
resign (struct nbd_conn *c)
{
  struct nbd_command *next;

  c->leader = NULL;
  for (next = c->waiting; next; next = next->next)
    if (!atomic_load (&next->done)) {
      pthread_cond_signal (&next->wake);
      return;
    }
}

static void
wait_for (struct nbd_conn *c, struct nbd_command *cmd)
{
  struct timespec until;

  LOCK_FOR_SCOPE (&c->lock);
  cmd->next = c->waiting;
  c->waiting = cmd;
  while (!atomic_load (&cmd->done) && c->leader) {
    /* The server may answer others, for ever, but not this one. */
    until = cond_until (check_time (c, cmd));
    pthread_cond_timedwait (&cmd->wake, &c->lock, &until);
  }
  forget_command (c, cmd);
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

void
nbd_command_init (struct nbd_conn *c, struct nbd_command *cmd)
{
  *cmd = (struct nbd_command) {
    .conn = c, .thread = pthread_self (),
    .until = now_monotonic_ns () + nbd_conn_patience_ns
  };
  cond_init (&cmd->wake);
  atomic_fetch_add (&c->started, 1);
}

int
nbd_command_finish (struct nbd_conn *c, struct nbd_command *cmd,
                    int64_t cookie)
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
