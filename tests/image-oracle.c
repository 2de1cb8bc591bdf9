/* SPDX-License-Identifier: BSD-3-Clause */

/* The images of backups, for test programs. */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image-oracle.h"
#include "segment/entry.h"
#include "unit.h"
#include "utils/rounding.h"

#define PIECE 65536

enum backup_stand
backup_look (const struct cbw_map *m, unsigned index, uint64_t id)
{
  struct cbw_snapshot entry;

  /* It may be a moment between two states. */
  if (!entry_copy (m, index, &entry) || entry.id != id ||
      entry.state == CBW_SNAPSHOT_HIDDEN)
    return BACKUP_GONE;
  if (entry.job.state == CBW_JOB_COMPLETE)
    return BACKUP_COMPLETE;
  return entry.job.state == CBW_JOB_FAILED ||
    entry.state == CBW_SNAPSHOT_BROKEN ? BACKUP_FAILED : BACKUP_RUNS;
}

/* The same of what is open. */
static bool
same_bytes (int fd, const unsigned char *data, uint64_t size, char *why,
            size_t len)
{
  unsigned char buf[PIECE];
  uint64_t offset, i, n;

  for (offset = 0; offset < size; offset += n) {
    n = min_u64 (size - offset, PIECE);
    if (pread (fd, buf, n, (off_t) offset) != (ssize_t) n) {
      snprintf (why, len, "it cannot be read at %" PRIu64 ": %m", offset);
      return false;
    }
    if (memcmp (buf, data + offset, n) == 0)
      continue;
    for (i = 0; buf[i] == data[offset + i]; ++i)
      ;
    snprintf (why, len, "byte %" PRIu64 " is %02x, and the disk had %02x",
              offset + i, buf[i], data[offset + i]);
    return false;
  }
  return true;
}

bool
image_same (const char *path, const unsigned char *data, uint64_t size,
            char *why, size_t len)
{
  const int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  bool r;

  if (fd == -1 || fstat (fd, &st) == -1) {
    snprintf (why, len, "%m");
    return false;
  }
  r = (uint64_t) st.st_size == size;
  if (r)
    r = same_bytes (fd, data, size, why, len);
  else
    snprintf (why, len, "it has %" PRIi64 " bytes", (int64_t) st.st_size);
  close (fd);
  return r;
}

void
image_scribble (const char *path, uint64_t size, uint64_t seed)
{
  const int fd = open (path, O_WRONLY | O_CLOEXEC);
  uint64_t buf[PIECE / 8], offset, n;
  unsigned i;

  CHECK (fd >= 0);
  for (i = 0; i < PIECE / 8; ++i)
    buf[i] = unit_random (&seed);
  for (offset = 0; offset < size; offset += n) {
    n = min_u64 (size - offset, PIECE);
    CHECK (pwrite (fd, buf, n, (off_t) offset) == (ssize_t) n);
  }
  close (fd);
}

bool
image_left (const char *dir, const char *image, char *found, size_t len)
{
  const char *name = strrchr (image, '/') + 1;
  DIR *d = opendir (dir);
  struct dirent *file;
  bool r = false;

  CHECK (d != NULL);
  while (!r && (file = readdir (d)) != NULL) {
    r = strstr (file->d_name, name) != NULL;
    if (r)
      snprintf (found, len, "%s", file->d_name);
  }
  closedir (d);
  return r;
}
