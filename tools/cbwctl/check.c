/* SPDX-License-Identifier: BSD-3-Clause */

/* Sizes are checked before anything is touched, and nothing is written.
 *
 * While the server works, what is looked at first may not fit what is
 * looked at later: a problem counts only if it is there again and again.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cbwctl.h"
#include "check.h"
#include "format.h"
#include "segment/liveness.h"
#include "segment/slots.h"
#include "utils/cleanup.h"
#include "utils/rounding.h"

/* How often to look at a segment that is in use. */
#define TRIES 4

static const char help[] =
  "Usage: cbwctl check SEGMENT [OPTIONS]\n"
  "\n"
  "Checks that a segment and its targets are in order, whether or not a server\n"
  "runs, and changes nothing.  Each problem is a line; if there is one, the exit\n"
  "status is 1.\n"
  "\n"
  "  --json  print the result as JSON\n"
  "  --help  print this help\n";

static const struct option options[] = {
  { "json", no_argument, NULL, 'j' },
  { NULL }
};

void
check_add (struct check_list *list, const char *fmt, ...)
{
  char **lines = realloc (list->lines, (list->nr + 1) * sizeof *lines);
  va_list args;
  int r;

  if (lines == NULL)
    abort ();
  list->lines = lines;
  va_start (args, fmt);
  r = vasprintf (&lines[list->nr], fmt, args);
  va_end (args);
  if (r == -1)
    abort ();
  list->nr++;
}

static void
list_free (struct check_list *list)
{
  size_t i;

  for (i = 0; i < list->nr; ++i)
    free (list->lines[i]);
  free (list->lines);
  *list = (struct check_list) { 0 };
}

static void
check_server (struct check *c)
{
  struct cbw_header *h = map_header (&c->segment.map);
  const uint32_t state = atomic_load (&h->state);
  const uint32_t blocks[] = {
    h->source_minimum_block, h->source_preferred_block
  };
  uint8_t boot_id[16];
  size_t i;

  if (state != CBW_SERVER_RUNNING && state != CBW_SERVER_STOPPED)
    check_add (&c->problems, "header: the server's state is %" PRIu32
               ", which has no meaning", state);
  if (h->clean > 1)
    check_add (&c->problems, "header: the clean flag is %" PRIu32, h->clean);
  if (h->generation == 0)
    check_add (&c->problems, "header: no server has had this segment");
  if (h->next_snapshot_id == 0)
    check_add (&c->problems, "header: the next snapshot's id is 0");
  for (i = 0; i < sizeof blocks / sizeof blocks[0]; ++i)
    if (blocks[i] != 0 && !is_power_of_2 (blocks[i]))
      check_add (&c->problems, "header: a block size of the disk is %" PRIu32,
                 blocks[i]);

  segment_boot_id (boot_id);
  c->rebooted = !c->alive && h->clean != 1 &&
    memcmp (boot_id, h->boot_id, sizeof boot_id) != 0;
  if (c->rebooted)
    check_add (&c->notes, "the host was restarted while the server ran: the "
               "next server will mark the snapshots broken");
  else if (!c->alive && h->clean != 1)
    check_add (&c->notes, "the server did not end in good order; the next "
               "one takes the snapshots up where they are");
}

static void
check_counters (struct check *c)
{
  struct cbw_header *h = map_header (&c->segment.map);
  /* In this order: a server adds to "requests" first. */
  const uint64_t read_bytes = atomic_load (&h->read_bytes);
  const uint64_t requests = atomic_load (&h->requests);

  if (read_bytes / CBW_SLOT_BUFFER_SIZE > requests)
    check_add (&c->problems, "header: %" PRIu64 " requests cannot have read %"
               PRIu64 " bytes", requests, read_bytes);
}

static void
check_slots (struct check *c)
{
  uint32_t word;
  unsigned i;

  for (i = 0; i < CBW_NR_SLOTS; ++i) {
    word = atomic_load (&map_slot (&c->segment.map, i)->state);
    if ((word & SLOT_STATE_MASK) > SLOT_DONE)
      check_add (&c->problems, "request list: slot %u is in state %u, which "
                 "has no meaning", i, word & SLOT_STATE_MASK);
  }
}

static void
check_length (struct check *c)
{
  const struct cbw_geometry *g = &c->segment.map.geometry;
  struct stat st;

  if (fstat (c->segment.fd, &st) == 0 &&
      (uint64_t) st.st_size > layout_file_size (g, CBW_NR_BITMAPS))
    check_add (&c->problems, "the file has %" PRIu64 " bytes, more than any "
               "segment of its geometry", (uint64_t) st.st_size);
}

static void
check_once (struct check *c)
{
  list_free (&c->problems);
  list_free (&c->notes);
  c->alive = liveness_server (c->segment.fd);
  check_server (c);
  check_counters (c);
  check_slots (c);
  check_length (c);
  check_directory (c);
  check_snapshots (c);
  check_cells (c);
  check_bitmaps (c);
  check_points (c);
}

static void
check_all (struct check *c)
{
  const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
  unsigned tries;

  for (tries = 0; tries < TRIES; ++tries) {
    if (tries > 0)
      nanosleep (&pause, NULL);
    check_once (c);
    if (c->problems.nr == 0 || !c->alive)
      return;
  }
}

static void
print_result (const char *path, const struct check *c)
{
  char text[FORMAT_TEXT_MAX];
  size_t i;

  for (i = 0; i < c->problems.nr; ++i)
    printf ("%s\n", format_text (c->problems.lines[i], text));
  for (i = 0; i < c->notes.nr; ++i)
    printf ("note: %s\n", format_text (c->notes.lines[i], text));
  if (c->problems.nr == 0)
    printf ("%s: no problems found\n", format_text (path, text));
  else
    printf ("%s: %zu problem%s; if you do not need its snapshots, stop the "
            "server and remove the file\n", format_text (path, text),
            c->problems.nr, c->problems.nr > 1 ? "s" : "");
}

static struct json_object *
json_list (const struct check_list *list)
{
  struct json_object *a = json_object_new_array ();
  size_t i;

  for (i = 0; i < list->nr; ++i)
    json_object_array_add (a, json_text (list->lines[i]));
  return a;
}

/* "corruptions" as in qemu-img check. */
static void
print_result_json (const char *path, const struct check *c)
{
  struct json_object *o = json_object_new_object ();

  json_object_object_add (o, "filename", json_text (path));
  json_object_object_add (o, "corruptions",
                          json_object_new_uint64 (c->problems.nr));
  json_object_object_add (o, "problems", json_list (&c->problems));
  json_object_object_add (o, "notes", json_list (&c->notes));
  json_print (o);
  json_object_put (o);
}

static int
check (const char *path, bool json, struct error *e)
{
  struct check *c = calloc (1, sizeof *c);
  int status;

  if (c == NULL)
    return error_set_errno (e, ENOMEM, "%s", path);
  c->segment = (struct segment) SEGMENT_INIT;
  if (segment_look (&c->segment, path, e) == 0)
    check_all (c);
  else if (e->num == EBADMSG || e->num == EPROTO || e->num == EINVAL)
    check_add (&c->problems, "%s", e->msg);
  else {
    free (c);
    return -1;
  }
  (json ? print_result_json : print_result) (path, c);
  status = c->problems.nr > 0 ? EXIT_FAILED : EXIT_DONE;
  list_free (&c->problems);
  list_free (&c->notes);
  segment_close (&c->segment, false);
  free (c);
  return status;
}

static int
run (int argc, char **argv)
{
  CLEANUP_FREE char *segment = NULL;
  bool json = false;
  struct error e;
  int c, status;

  while ((c = next_option (&command_check, argc, argv, options)) != -1)
    json = true;
  argv += first_argument (&command_check, argc, 1, 1, "a segment");
  if ((segment = segment_path (argv[0], &e)) == NULL ||
      (status = check (segment, json, &e)) == -1)
    return report_error (&e);
  return status;
}

const struct command command_check = {
  .name = "check",
  .summary = "check that a segment and its targets are in order",
  .help = help,
  .run = run,
};
