/* SPDX-License-Identifier: BSD-3-Clause */

/* Was the disk's file changed while nobody served it?  An orderly end notes
 * which file it is and how it was; the next start compares.
 */

#ifndef CBW_IDENTITY_H
#define CBW_IDENTITY_H

#include <stdbool.h>

#include "below/source-file.h"
#include "segment/layout.h"

/* What to note, which is on stable storage: of kind CBW_SOURCE_UNKNOWN if no
 * regular file is known.
 */
extern struct cbw_source_identity identity_of (const struct source_file *f);

/* Is it surely not what was noted?  A note that is damaged, or of kind unknown,
 * says nothing; and if no file is known now, nothing can be said either.
 */
extern bool identity_differs (const struct cbw_source_identity *noted,
                              const struct source_file *f);

#endif /* CBW_IDENTITY_H */
