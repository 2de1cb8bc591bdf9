/* SPDX-License-Identifier: BSD-3-Clause */

/* A frame for unit tests in C: one program a module, one function a
 * behaviour, and checks which say where and what.
 *
 *   static void test_that (void) { CHECK (...); }
 *   int main (void) { unit_start (); RUN (test_that); return unit_end (); }
 *
 * A check that fails ends the program at once.  Checks may stand in any
 * thread.  A program that hangs is ended by the alarm.
 */

#ifndef CBW_UNIT_H
#define CBW_UNIT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Seconds until a test counts as hanging. */
#define UNIT_TIMEOUT 120

#define CHECK(condition)                                                \
  ((condition) ? (void) 0 :                                             \
   unit_fail (__FILE__, __LINE__, "not true: " #condition))

/* The two are equal, as unsigned 64-bit numbers. */
#define CHECK_EQ(actual, expected)                                      \
  unit_check_eq (__FILE__, __LINE__, #actual, (uint64_t) (actual),      \
                 (uint64_t) (expected))

/* The error "e" carries that errno, and the text in its message. */
#define CHECK_ERROR(e, number, text)                                    \
  unit_check_error (__FILE__, __LINE__, (e)->num, (e)->msg, (number), (text))

#define RUN(test)                                                       \
  do {                                                                  \
    printf ("%s\n", #test);                                             \
    fflush (stdout);                                                    \
    test ();                                                            \
  } while (0)

static inline void
unit_fail (const char *file, int line, const char *what)
{
  fprintf (stderr, "%s:%d: FAIL: %s\n", file, line, what);
  exit (1);
}

static inline void
unit_check_eq (const char *file, int line, const char *what,
               uint64_t actual, uint64_t expected)
{
  if (actual == expected)
    return;
  fprintf (stderr, "%s:%d: FAIL: %s is %" PRIu64 ", expected %" PRIu64 "\n",
           file, line, what, actual, expected);
  exit (1);
}

static inline void
unit_check_error (const char *file, int line, int num, const char *msg,
                  int expected_num, const char *text)
{
  if (num == expected_num && strstr (msg, text))
    return;
  fprintf (stderr, "%s:%d: FAIL: the error is %d, \"%s\"; "
           "expected %d, \"...%s...\"\n", file, line, num, msg,
           expected_num, text);
  exit (1);
}

static inline void
unit_start (void)
{
  alarm (UNIT_TIMEOUT);
}

static inline int
unit_end (void)
{
  return 0;
}

/* Random numbers from a seed: splitmix64. */
static inline uint64_t
unit_random (uint64_t *state)
{
  uint64_t z = *state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* Long enough for another thread to do what it must not. */
static inline void
unit_give_time (void)
{
  const struct timespec ts = { .tv_nsec = 30 * 1000 * 1000 };

  nanosleep (&ts, NULL);
}

/* A directory of the test's own, which it removes at its end. */
static inline char *
unit_tmpdir (void)
{
  const char *base = getenv ("TMPDIR");
  char *dir;

  CHECK (asprintf (&dir, "%s/cbw-unit-XXXXXX", base ? base : "/tmp") != -1);
  CHECK (mkdtemp (dir) != NULL);
  return dir;
}

static inline void
unit_rmdir (char *dir)
{
  if (rmdir (dir) == -1)
    perror (dir);               /* a test that left something behind */
  CHECK (access (dir, F_OK) == -1);
  free (dir);
}

#endif /* CBW_UNIT_H */
