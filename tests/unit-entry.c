/* SPDX-License-Identifier: BSD-3-Clause */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "segment/entry.h"
#include "unit.h"

static struct cbw_map map;
static struct cbw_map *m = &map;

static void
start (void)
{
  layout_geometry (1 << 20, 4096, 0, &map.geometry);
  map.base = mmap (NULL, map.geometry.bitmaps_offset, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK (map.base != MAP_FAILED);
}

static void
end (void)
{
  munmap (map.base, map.geometry.bitmaps_offset);
}

static struct cbw_snapshot *
make (unsigned i, uint64_t id, const char *name,
      enum cbw_snapshot_state state)
{
  struct cbw_snapshot *entry = map_snapshot (m, i);

  entry->id = id;
  entry->size = 1 << 20;
  snprintf (entry->name, sizeof entry->name, "%s", name);
  entry->sum = entry_sum (entry);
  atomic_store (&entry->state, state);
  return entry;
}

static void
test_states (void)
{
  struct snapshot_info info;
  uint32_t state;

  start ();
  make (0, 1, "a", CBW_SNAPSHOT_EMPTY);
  for (state = 0; state < 10; ++state) {
    atomic_store (&map_snapshot (m, 0)->state, state);
    CHECK_EQ (entry_read (m, 0, &info),
              state == CBW_SNAPSHOT_LIVE || state == CBW_SNAPSHOT_BROKEN);
  }
  end ();
}

/* Unlike entry_read, entry_copy sees what users do not. */
static void
test_copy (void)
{
  struct cbw_snapshot copy;
  struct snapshot_info info;
  uint32_t state;
  char buf[256];

  start ();
  make (3, 7, "a", CBW_SNAPSHOT_EMPTY);
  for (state = 0; state < 10; ++state) {
    atomic_store (&map_snapshot (m, 3)->state, state);
    CHECK_EQ (entry_copy (m, 3, &copy),
              state >= CBW_SNAPSHOT_RESERVED && state <= CBW_SNAPSHOT_HIDDEN);
    CHECK_EQ (copy.state, state);
  }
  atomic_store (&map_snapshot (m, 3)->state, CBW_SNAPSHOT_HIDDEN);
  CHECK (entry_copy (m, 3, &copy));
  entry_info (&copy, 3, &info);
  CHECK (info.id == 7 && info.index == 3 && strcmp (info.name, "a") == 0);
  entry_describe (&info, buf, sizeof buf);
  CHECK (strncmp (buf, "hidden", 6) == 0);
  end ();
}

static void
test_damaged (void)
{
  struct snapshot_info info;
  struct cbw_snapshot *entry;
  size_t i;

  start ();
  entry = make (0, 1, "a", CBW_SNAPSHOT_LIVE);
  CHECK (entry_read (m, 0, &info));
  for (i = 0; i < offsetof (struct cbw_snapshot, sum) + 8; ++i) {
    ((unsigned char *) entry)[i] ^= 4;
    CHECK (!entry_read (m, 0, &info));
    ((unsigned char *) entry)[i] ^= 4;
  }
  /* A name without end, under a right sum. */
  memset (entry->name, 'x', sizeof entry->name);
  entry->sum = entry_sum (entry);
  CHECK (!entry_read (m, 0, &info));
  end ();
}

static void
test_find (void)
{
  struct snapshot_info info;

  start ();
  CHECK (!entry_find (m, NULL, &info));
  make (5, 3, "middle", CBW_SNAPSHOT_LIVE);
  make (9, 7, "newest", CBW_SNAPSHOT_BROKEN);
  make (63, 1, "oldest", CBW_SNAPSHOT_LIVE);
  make (64 - 2, 8, "not yet", CBW_SNAPSHOT_RESERVED);
  CHECK (entry_find (m, NULL, &info));
  CHECK (info.id == 7 && info.index == 9);
  CHECK (strcmp (info.name, "newest") == 0);
  CHECK (entry_find (m, "oldest", &info));
  CHECK (info.id == 1 && info.index == 63);
  CHECK (!entry_find (m, "not yet", &info));
  CHECK (!entry_find (m, "", &info));
  make (2, 9, "twice", CBW_SNAPSHOT_LIVE); /* the newest is meant */
  make (7, 4, "twice", CBW_SNAPSHOT_LIVE);
  CHECK (entry_find (m, "twice", &info));
  CHECK_EQ (info.id, 9);
  end ();
}

/* An entry that another process makes anew again and again: a reader gets
 * one or the other, never a mixture.
 */
static void
remake_for_ever (void)
{
  char name[CBW_NAME_MAX];
  uint64_t id;

  for (id = 1;; ++id) {
    atomic_store (&map_snapshot (m, 0)->state, CBW_SNAPSHOT_EMPTY);
    memset (name, 'a' + (int) (id % 26), 40);
    name[40] = '\0';
    make (0, id, name, CBW_SNAPSHOT_LIVE);
    usleep (id % 4);            /* now and then long enough to be read */
  }
}

static void
test_torn (void)
{
  struct snapshot_info info;
  unsigned good = 0;
  pid_t pid;
  size_t i;

  start ();
  pid = fork ();
  if (pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    remake_for_ever ();
  }
  while (good < 1000) {
    if (!entry_read (m, 0, &info))
      continue;
    good++;
    CHECK_EQ (strlen (info.name), 40);
    for (i = 0; i < 40; ++i)
      CHECK_EQ (info.name[i], 'a' + info.id % 26);
  }
  kill (pid, SIGKILL);
  CHECK (waitpid (pid, NULL, 0) == pid);
  end ();
}

static void
test_names (void)
{
  static const char *const bad[] = {
    "", "a/b", "..", "a..b", "x\n", "\x7f",
    "\xc2\x9b", /* a control character too */
    /* No UTF-8: cut, overlong, a surrogate, too large. */
    "\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
  };
  char name[CBW_NAME_MAX + 1];
  struct error e;
  size_t i;

  CHECK (entry_check_name ("monday", &e) == 0);
  CHECK (entry_check_name ("2026-01-01 0:00", &e) == 0);
  CHECK (entry_check_name ("\xc3\xa4\xe2\x82\xac\xf0\x9f\x92\xbe",
                           &e) == 0); /* UTF-8 */
  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    CHECK (entry_check_name (bad[i], &e) == -1);
    CHECK_EQ (e.num, EINVAL);
  }
  memset (name, 'x', sizeof name);
  name[CBW_NAME_MAX - 1] = '\0';
  CHECK (entry_check_name (name, &e) == 0);
  name[CBW_NAME_MAX - 1] = 'x';
  name[CBW_NAME_MAX] = '\0';
  CHECK (entry_check_name (name, &e) == -1);
  CHECK_ERROR (&e, ENAMETOOLONG, "longer than 63");
}

static void
test_describe (void)
{
  struct snapshot_info info = { .state = CBW_SNAPSHOT_LIVE };
  char buf[256];

  entry_describe (&info, buf, sizeof buf);
  CHECK (strcmp (buf, "live") == 0);
  info.state = CBW_SNAPSHOT_BROKEN;
  info.error_reason = CBW_BROKEN_COPY;
  info.error_num = ENOSPC;
  info.error_offset = 65536;
  entry_describe (&info, buf, sizeof buf);
  CHECK (strcmp (buf, "broken: copy failed at offset 65536: "
                 "No space left on device") == 0);
  info.error_reason = CBW_BROKEN_REBOOT;
  entry_describe (&info, buf, sizeof buf);
  CHECK (strstr (buf, "host went down") != NULL);
  info.error_reason = CBW_BROKEN_TARGET;
  entry_describe (&info, buf, sizeof buf);
  CHECK (strstr (buf, "target is gone") != NULL);
  info.error_reason = CBW_BROKEN_SOURCE;
  entry_describe (&info, buf, sizeof buf);
  CHECK (strstr (buf, "a disk of its own") != NULL);
}

int
main (void)
{
  unit_start ();
  RUN (test_states);
  RUN (test_copy);
  RUN (test_damaged);
  RUN (test_find);
  RUN (test_torn);
  RUN (test_names);
  RUN (test_describe);
  return unit_end ();
}
