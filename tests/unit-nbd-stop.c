/* SPDX-License-Identifier: BSD-3-Clause */

/* Ending NBD images whose servers hang: whatever somebody waits for ends when
 * the image is interrupted, and closing takes no longer than it should.
 */

#include <config.h>

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "fake-nbd.h"
#include "image/nbd/nbd.h"
#include "nbd-env.h"
#include "unit.h"
#include "utils/clock.h"

/* The three seconds that closing may take, and room for a slow machine. */
#define SOON (8 * NS_PER_SEC)

static void
wait_until (_Atomic (bool) *condition)
{
  while (!atomic_load (condition))
    unit_give_time ();
}

static void
close_soon (struct image *image)
{
  const uint64_t before = now_monotonic_ns ();

  image->ops->close (image);
  CHECK (now_monotonic_ns () - before < SOON);
}

/* A request in a thread of its own, which is to fail. */
struct waiter {
  struct image *image;
  bool flush;
  pthread_t thread;
  _Atomic (bool) begun;
  struct error e;
};

static void *
wait_for_server (void *opaque)
{
  struct waiter *w = opaque;
  const struct image_ops *ops = w->image->ops;
  char byte;

  atomic_store (&w->begun, true);
  do                            /* just after a try nobody waits */
    CHECK ((w->flush ? ops->flush (w->image, &w->e) :
            ops->pread (w->image, &byte, 1, 0, &w->e)) == -1);
  while (w->e.num == EIO);
  return NULL;
}

static void
begin_waiting (struct waiter *w)
{
  CHECK (pthread_create (&w->thread, NULL, wait_for_server, w) == 0);
  wait_until (&w->begun);
}

static void
end_waiting (struct waiter *w)
{
  CHECK (pthread_join (w->thread, NULL) == 0);
  CHECK_ERROR (&w->e, ESHUTDOWN, "this server is stopping");
}

/* Everything fails at once, and nothing is lost by that. */
static void
check_interrupted (struct image *image)
{
  const uint64_t before = now_monotonic_ns ();
  uint64_t next;
  struct error e;
  char byte = 1;
  bool data;

  CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
  CHECK_ERROR (&e, ESHUTDOWN, "this server is stopping");
  CHECK (image->ops->pwrite (image, &byte, 1, 0, &e) == -1);
  CHECK_ERROR (&e, ESHUTDOWN, "this server is stopping");
  CHECK (image->ops->extent (image, 0, 1, &next, &data, &e) == -1);
  CHECK_ERROR (&e, ESHUTDOWN, "this server is stopping");
  CHECK (image->ops->check (image, &e) == 0);
  CHECK (now_monotonic_ns () - before < SOON);
}

static void
hang_in_reads (struct fake_request *rq)
{
  if (rq->type == FAKE_READ)
    fake_hang (rq);
  else
    fake_serve (rq);
}

static void
hang_in_flushes (struct fake_request *rq)
{
  if (rq->type == FAKE_FLUSH)
    fake_hang (rq);
  else
    fake_serve (rq);
}

static void
test_hanging_read (void)
{
  struct fake *f = fake_start (hang_in_reads, NULL);
  struct waiter w = { .image = nbd_env_open (0) };
  struct error e;

  begin_waiting (&w);
  wait_until (&f->hanging);
  image_nbd_interrupt (w.image);
  end_waiting (&w);
  check_interrupted (w.image);
  CHECK (w.image->ops->flush (w.image, &e) == 0); /* there is nothing */
  close_soon (w.image);
  fake_stop (f);
}

static void
test_hanging_flush (void)
{
  struct fake *f = fake_start (hang_in_flushes, NULL);
  struct waiter w = { .image = nbd_env_open (0), .flush = true };
  struct error e;

  CHECK (w.image->ops->pwrite (w.image, "x", 1, 0, &e) == 0);
  begin_waiting (&w);
  wait_until (&f->hanging);
  image_nbd_interrupt (w.image);
  end_waiting (&w);
  check_interrupted (w.image);
  CHECK (w.image->ops->flush (w.image, &e) == -1);
  CHECK_ERROR (&e, ESHUTDOWN, "this server is stopping");
  close_soon (w.image);
  fake_stop (f);
}

static void
silent (struct fake *f)
{
  f->mute = true;
}

/* It accepts, and never says a word. */
static void
test_mute_server (void)
{
  struct fake *f = fake_start (NULL, NULL);
  struct waiter w = { .image = nbd_env_open (0) };

  fake_stop (f);
  f = fake_start (NULL, silent);
  begin_waiting (&w);
  while (f->connections == 0)
    unit_give_time ();
  image_nbd_interrupt (w.image);
  end_waiting (&w);
  check_interrupted (w.image);
  close_soon (w.image);
  fake_stop (f);
}

/* A server that came back, and hangs when it is to show that it has all: a
 * request does not wait for that for ever, and neither does closing.
 */
static void
test_hanging_check (void)
{
  struct fake *f = fake_start (NULL, NULL);
  struct image *image = nbd_env_open (0);
  uint64_t before;
  struct error e;
  char byte;

  CHECK (image->ops->pwrite (image, "x", 1, 0, &e) == 0);
  fake_stop (f);
  f = fake_start (hang_in_reads, NULL);
  before = now_monotonic_ns ();
  do                            /* just after a try nobody waits */
    CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
  while (strstr (e.msg, "the connection to the server was lost"));
  CHECK_ERROR (&e, EIO, "it takes too long");
  CHECK (f->hanging);
  CHECK (now_monotonic_ns () - before < 20 * NS_PER_SEC);
  before = now_monotonic_ns ();
  CHECK (image->ops->pread (image, &byte, 1, 0, &e) == -1);
  CHECK (now_monotonic_ns () - before < SOON);
  close_soon (image);
  fake_stop (f);
}

/* A command that does not end when it is told to. */
static void
test_stopped_command (void)
{
  char *pidfile, *argv[] = {
    (char *) NBDKIT_PROGRAM, (char *) "-f", (char *) "-P", NULL,
    (char *) "memory", (char *) "1M", NULL
  };
  struct image *image;
  struct error e;
  uint64_t size;
  FILE *file;
  int pid;

  CHECK (asprintf (&pidfile, "%s/pid", nbd_env.dir) != -1);
  argv[3] = pidfile;
  image = image_nbd_spawn (argv, 0, &size, &e);
  if (image == NULL)
    unit_fail (__FILE__, __LINE__, e.msg);
  file = fopen (pidfile, "r");
  CHECK (file && fscanf (file, "%d", &pid) == 1);
  fclose (file);
  CHECK (kill (pid, SIGSTOP) == 0);
  image_nbd_interrupt (image);
  close_soon (image);
  CHECK (kill (pid, 0) == -1 && errno == ESRCH);
  unlink (pidfile);
  free (pidfile);
}

/* ---- All at once: from here on everything is interrupted ---- */

/* libnbd waits for the resolver, which nothing can interrupt. */
static _Atomic (bool) resolving, resolved, may_resolve;

int
getaddrinfo (const char *node, const char *service,
             const struct addrinfo *hints, struct addrinfo **result)
{
  (void) node;
  (void) service;
  (void) hints;
  (void) result;
  atomic_store (&resolving, true);
  wait_until (&may_resolve);
  atomic_store (&resolved, true);
  return EAI_AGAIN;
}

/* Open an image at a server of ours or elsewhere, in a thread of its own. */
struct opener {
  const char *uri;
  bool again;
  pthread_t thread;
  _Atomic (uint64_t) words[IMAGE_NBD_WORDS];
  struct image *image;
  struct error e;
};

static void *
open_image (void *opaque)
{
  struct opener *o = opaque;
  uint64_t size;

  o->image = o->again ?
    image_nbd_reopen (o->uri, 0, FAKE_SIZE, 4096, o->words, &o->e) :
    image_nbd_open (o->uri, 0, &size, &o->e);
  return NULL;
}

static void
test_interrupt_all (void)
{
  struct fake *f = fake_start (NULL, NULL);
  struct image *image = nbd_env_open (0);
  struct opener again = { .uri = nbd_env.uri, .again = true }, resolver = {
    .uri = "nbd://cbw.invalid"
  };
  struct error e;
  uint64_t size, before;

  image_nbd_remember (image, again.words);
  CHECK (image->ops->pwrite (image, "x", 1, 0, &e) == 0);
  fake_stop (f);
  f = fake_start (hang_in_reads, NULL);
  CHECK (pthread_create (&again.thread, NULL, open_image, &again) == 0);
  CHECK (pthread_create (&resolver.thread, NULL, open_image, &resolver) == 0);
  wait_until (&f->hanging);
  wait_until (&resolving);
  before = now_monotonic_ns ();
  image_nbd_interrupt_all ();

  check_interrupted (image);
  close_soon (image);
  /* One that was there before is not lost. */
  CHECK (pthread_join (again.thread, NULL) == 0);
  CHECK (again.image != NULL);
  check_interrupted (again.image);
  close_soon (again.image);
  CHECK (pthread_join (resolver.thread, NULL) == 0);
  CHECK (resolver.image == NULL);
  CHECK_ERROR (&resolver.e, ESHUTDOWN, "this server is stopping");
  CHECK (now_monotonic_ns () - before < SOON);
  atomic_store (&may_resolve, true);
  wait_until (&resolved);
  unit_give_time ();            /* it frees what it has */

  CHECK (image_nbd_open (nbd_env.uri, 0, &size, &e) == NULL);
  CHECK_ERROR (&e, ESHUTDOWN, "this server is stopping");
  fake_stop (f);
}

int
main (void)
{
  unit_start ();
  nbd_env_start ();
  RUN (test_hanging_read);
  RUN (test_hanging_flush);
  RUN (test_mute_server);
  RUN (test_hanging_check);
  RUN (test_stopped_command);
  RUN (test_interrupt_all);
  nbd_env_end ();
  return unit_end ();
}
