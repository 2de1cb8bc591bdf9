#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The manual pages are sound POD, and know the same parameters as --help
# and the sources.

. ./functions.sh
set -e
requires podchecker

filter_src=$top_srcdir/filters/cbw
plugin_src=$top_srcdir/plugins/snapshot-access
filter_pod=$filter_src/nbdkit-cbw-filter.pod
plugin_pod=$plugin_src/nbdkit-snapshot-access-plugin.pod

# Only the part of "--help" which speaks of us: up to the next empty line.
help_parameters ()
{
    eval "$(nbdkit_command) --help \"\$@\"" 2>&1 |
        sed -n '/^\(filter: cbw\|plugin: snapshot-access\) /,/^$/p' |
        sed -n 's/^\[\{0,1\}\([a-z-]*\)=.*/\1/p' | sort -u
}

pod_parameters ()
{
    sed -n '/^=head1 PARAMETERS/,/^=head1 [^P]/p' "$1" |
        sed -n 's/^=item \[\{0,1\}B<\([a-z-]*\)=.*/\1/p' | sort -u
}

synopsis_parameters ()
{
    sed -n '/^=head1 SYNOPSIS/,/^=head1 D/p' "$1" |
        grep -oE '[a-z-]+\]?=' | grep -v '^--' | tr -d ']=' | sort -u
}

source_parameters ()
{
    sed -n 's/.*strcmp (key, "\([a-z-]*\)") == 0.*/\1/p' "$1" | sort -u
}

# same WHAT: $tmp/help is the truth that $tmp/other is compared with.
same ()
{
    [ -s "$tmp/help" ] || fail "no parameters in --help"
    diff -u "$tmp/help" "$tmp/other" || fail "$1 and --help differ"
}

compare ()
{
    pod_parameters "$1" >"$tmp/other"
    same "$1"
    synopsis_parameters "$1" >"$tmp/other"
    same "the synopsis of $1"
    source_parameters "$2" >"$tmp/other"
    same "$2"
}

help_parameters --filter="$filter" null >"$tmp/help"
compare "$filter_pod" "$filter_src/params.c"

help_parameters "$plugin" >"$tmp/help"
compare "$plugin_pod" "$plugin_src/params.c"

# The tree in docs/architecture.md names every source file, and no other.
sed -n '/^## The tree/,/^## Threads/p' "$top_srcdir/docs/architecture.md" \
    >"$tmp/tree"
for file in $(cd "$top_srcdir" &&
              find common filters plugins tools -name '*.[ch]'); do
    name=${file##*/}
    grep -qE "(^|[^a-z0-9-])${name%.[ch]}([^a-z0-9-]|\$)" "$tmp/tree" ||
        fail "the tree in docs/architecture.md does not name $file"
done
for name in $(grep -oE '[a-z0-9_]+(-[a-z0-9]+)*\.[ch]' "$tmp/tree") \
            $(sed -nE 's/^ +([a-z0-9]+(-[a-z0-9]+)+) .*/\1.[ch]/p' \
                  "$tmp/tree"); do
    [ -n "$(cd "$top_srcdir" &&
            find common filters plugins tools -name "$name")" ] ||
        fail "docs/architecture.md names $name, which does not exist"
done

# Every page leads to what is said about security.
for page in README.md docs/architecture.md docs/segment.md \
            docs/nbdkit-cbw-segment.pod tools/cbwctl/cbwctl.pod \
            filters/cbw/nbdkit-cbw-filter.pod \
            plugins/snapshot-access/nbdkit-snapshot-access-plugin.pod; do
    expect_in "$top_srcdir/$page" "security.md"
done
[ -s "$top_srcdir/docs/security.md" ] || fail "no docs/security.md"

for pod in "$filter_pod" "$plugin_pod" "$top_srcdir"/docs/*.pod; do
    podchecker -warnings -warnings "$pod" >"$tmp/podchecker" 2>&1 &&
        ! grep -qi warning "$tmp/podchecker" ||
        { cat "$tmp/podchecker" >&2; fail "$pod is not sound"; }
    for section in NAME SYNOPSIS DESCRIPTION FILES VERSION 'SEE ALSO' \
                   AUTHORS LICENSE; do
        expect_in "$pod" "=head1 $section"
    done
done
