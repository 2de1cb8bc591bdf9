/* SPDX-License-Identifier: BSD-3-Clause */

/* Parsing the plugin's parameters, for snapshot-access.c. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "image/nbd/nbd.h"
#include "params.h"
#include "segment/segment.h"
#include "segment/entry.h"
#include "utils/parse.h"

static int
set_seconds (const char *key, const char *value, uint64_t *ns)
{
  struct error e;

  if (parse_seconds (value, ns, &e) == -1) {
    nbdkit_error ("%s=%s: %s", key, value, e.msg);
    return -1;
  }
  return 0;
}

static int
set_shm (struct params *p, const char *value)
{
  struct error e;

  free (p->shm);
  if (strchr (value, '/')) {
    p->shm = nbdkit_absolute_path (value);
    return p->shm ? 0 : -1;
  }
  p->shm = segment_path (value, &e);
  if (p->shm == NULL) {
    nbdkit_error ("shm: %s", e.msg);
    return -1;
  }
  return 0;
}

static int
set_discard (struct params *p, const char *value)
{
  int r;

  if (strcmp (value, "read") == 0) {
    p->discard = DISCARD_READ;
    return 0;
  }
  r = nbdkit_parse_bool (value);
  if (r == -1)
    return -1;
  p->discard = r ? DISCARD_TRIM : DISCARD_NO;
  return 0;
}

static int
set_direct (struct params *p, const char *value)
{
  p->direct = strcmp (value, "auto") == 0;
  if (p->direct || strcmp (value, "off") == 0)
    return 0;
  nbdkit_error ("direct=%s: must be auto or off", value);
  return -1;
}

int
params_parse (struct params *p, const char *key, const char *value)
{
  if (strcmp (key, "shm") == 0)
    return set_shm (p, value);
  if (strcmp (key, "qcow2") == 0) {
    free (p->qcow2);
    p->qcow2 = nbdkit_absolute_path (value);
    return p->qcow2 ? 0 : -1;
  }
  if (strcmp (key, "snapshot") == 0) {
    p->snapshot = value;
    return 0;
  }

  p->shm_only = key;
  if (strcmp (key, "create") == 0) {
    const int r = nbdkit_parse_bool (value);

    p->create = r == 1;
    return r == -1 ? -1 : 0;
  }
  if (strcmp (key, "discard") == 0)
    return set_discard (p, value);
  if (strcmp (key, "direct") == 0)
    return set_direct (p, value);
  if (strcmp (key, "target") == 0) {
    free (p->target);
    p->target = image_nbd_is_name (value) ? strdup (value) :
      nbdkit_absolute_path (value);
    return p->target ? 0 : -1;
  }
  if (strcmp (key, "wait") == 0)
    return set_seconds (key, value, &p->wait_ns);
  if (strcmp (key, "timeout") == 0)
    return set_seconds (key, value, &p->timeout_ns);
  nbdkit_error ("unknown parameter %s "
                "(nbdkit --help snapshot-access lists them)", key);
  return -1;
}

static int
qcow2_complete (const struct params *p)
{
  if (p->shm) {
    nbdkit_error ("a segment (shm=) and qcow2= cannot be served together");
    return -1;
  }
  if (p->shm_only) {
    nbdkit_error ("%s= goes with a segment (shm=), not with qcow2=",
                  p->shm_only);
    return -1;
  }
  if (p->snapshot && *p->snapshot == '\0') {
    nbdkit_error ("snapshot: the name or the id of a snapshot is missing");
    return -1;
  }
  return 0;
}

int
params_complete (const struct params *p)
{
  struct error e;

  if (p->qcow2)
    return qcow2_complete (p);
  if (p->shm == NULL) {
    nbdkit_error ("the segment is missing: nbdkit snapshot-access SEGMENT, "
                  "the same as the filter's cbw-shm=; or a qcow2 image with "
                  "internal snapshots: qcow2=FILE");
    return -1;
  }
  if (p->snapshot && entry_check_name (p->snapshot, &e) == -1) {
    nbdkit_error ("snapshot: %s", e.msg);
    return -1;
  }
  if (p->target && !p->create) {
    nbdkit_error ("target= goes with create=true");
    return -1;
  }
  return 0;
}

void
params_free (struct params *p)
{
  free (p->target);
  free (p->qcow2);
  free (p->shm);
}
