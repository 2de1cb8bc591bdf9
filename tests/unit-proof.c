/* SPDX-License-Identifier: BSD-3-Clause */

/* Whether a guest's write shows that its disk is the one that is read, or
 * another; whatever others write meanwhile.
 */

#include <config.h>

#include <errno.h>

#include "below/proof.h"
#include "engine-env.h"
#include "unit.h"

#define CS 4096
#define SIZE (10 * CS)

static struct env read_env, own_env;
static unsigned char data[512];

static void
start (void)
{
  env_start_bare (&read_env, SIZE, CS, 1);
  env_start_bare (&own_env, SIZE, CS, 1);
  memset (data, 0x5a, sizeof data);
}

static void
end (void)
{
  env_end (&read_env);
  env_end (&own_env);
}

static unsigned char *
at (struct env *env)
{
  return env->disk.fake.data + 2 * CS;
}

/* The guest writes to a disk of its own, or to the one. */
static enum proof_result
write_to (struct env *env, bool failed)
{
  struct proof p;

  proof_begin (&p, &read_env.source.image, 2 * CS, sizeof data, data);
  memcpy (at (env), data, sizeof data);
  return proof_end (&p, &read_env.source.image, &env->source.image, 2 * CS,
                    data, failed);
}

static void
test_one_disk (void)
{
  start ();
  CHECK_EQ (write_to (&read_env, false), PROOF_ONE_DISK);
  end ();
}

static void
test_apart (void)
{
  start ();
  CHECK_EQ (write_to (&own_env, false), PROOF_APART);
  end ();
}

/* Nothing is shown by a write that changes nothing, or fails. */
static void
test_nothing_shown (void)
{
  start ();
  memcpy (at (&read_env), data, sizeof data);
  CHECK_EQ (write_to (&own_env, false), PROOF_NONE);
  CHECK_EQ (write_to (&read_env, false), PROOF_NONE);
  end ();
  start ();
  CHECK_EQ (write_to (&own_env, true), PROOF_NONE);
  end ();
}

static void
test_unreadable (void)
{
  struct proof p;

  start ();
  atomic_store (&read_env.disk.fake.fail, EIO);
  CHECK_EQ (write_to (&own_env, false), PROOF_NONE);
  atomic_store (&read_env.disk.fake.fail, 0);
  end ();
  start ();
  proof_begin (&p, &read_env.source.image, 2 * CS, sizeof data, data);
  memcpy (at (&own_env), data, sizeof data);
  atomic_store (&own_env.disk.fake.fail, EIO);
  CHECK_EQ (proof_end (&p, &read_env.source.image, &own_env.source.image,
                       2 * CS, data,
                       false), PROOF_NONE);
  end ();
}

static void
overwrite (void *opaque)
{
  memset (opaque, 0xa5, sizeof data);
}

/* Another guest's write is there when it is looked at. */
static void
test_others_write (void)
{
  unsigned char old[sizeof data];
  struct proof p;

  start ();
  hook_set (&read_env.disk.fake.before, overwrite, at (&read_env));
  atomic_store (&read_env.disk.fake.before.skip, 1);
  CHECK_EQ (write_to (&read_env, false), PROOF_ONE_DISK);
  end ();

  /* It puts back what was there. */
  start ();
  memcpy (old, at (&read_env), sizeof old);
  proof_begin (&p, &read_env.source.image, 2 * CS, sizeof data, data);
  memcpy (at (&read_env), old, sizeof old);
  CHECK_EQ (proof_end (&p, &read_env.source.image, &read_env.source.image,
                       2 * CS, data,
                       false), PROOF_NONE);
  end ();

  /* Late: a connection that is not the guest's shows that it is not apart. */
  start ();
  hook_set (&own_env.disk.fake.after, overwrite, at (&read_env));
  atomic_store (&own_env.disk.fake.after.skip, 3);
  CHECK_EQ (write_to (&own_env, false), PROOF_ONE_DISK);
  end ();
}

int
main (void)
{
  unit_start ();
  RUN (test_one_disk);
  RUN (test_apart);
  RUN (test_nothing_shown);
  RUN (test_unreadable);
  RUN (test_others_write);
  return unit_end ();
}
