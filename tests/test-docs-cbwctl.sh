#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl's manual page is sound POD, and knows the same commands and options
# as --help, as the sources, and as bash completion.

. ./functions.sh
set -e
requires podchecker

src=$top_srcdir/tools/cbwctl
pod=$src/cbwctl.pod
completion=$src/completion/cbwctl

podchecker -warnings -warnings "$pod" >"$tmp/podchecker" 2>&1 &&
    ! grep -qi warning "$tmp/podchecker" ||
    { cat "$tmp/podchecker" >&2; fail "$pod is not sound"; }
for section in NAME SYNOPSIS DESCRIPTION EXAMPLES COMMANDS OPTIONS \
               'EXIT STATUS' FILES VERSION 'SEE ALSO' AUTHORS LICENSE; do
    expect_in "$pod" "=head1 $section"
done
for other in "$top_srcdir"/filters/*/*.pod "$top_srcdir"/plugins/*/*.pod \
             "$top_srcdir"/docs/*.pod; do
    expect_in "$other" 'L<cbwctl(1)>'
done

# differ WHAT: $tmp/help is the truth that $tmp/other is compared with.
compare ()
{
    [ -s "$tmp/help" ] || fail "nothing to compare $1 with"
    diff -u "$tmp/help" "$tmp/other" || fail "$1 and --help differ"
}

# Options of the text on stdin, as words with "=" if they have a value.
options ()
{
    grep -oE -- '--[a-z]+(-[a-z]+)*(=|)' | grep -v -- '^--help' | sort -u
}

help_options ()
{
    grep -oE '^  --[a-z]+(-[a-z]+)*(=|)' | options
}

cbwctl --help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p' | sort >"$tmp/help"
commands=$(cat "$tmp/help")
sed -n 's/^ cbwctl \([a-z]*\) SEGMENT.*/\1/p' "$pod" | grep -v EXAMPLE |
    sort -u >"$tmp/other"
compare "the synopsis of the manual page"
sed -n 's/^=head2 cbwctl \([a-z]*\) SEGMENT.*/\1/p' "$pod" | sort >"$tmp/other"
compare "the manual page"
sed -n 's/^        \([a-z]*\)) options=.*/\1/p' "$completion" |
    sort >"$tmp/other"
compare "bash completion"

for command in $commands; do
    cbwctl "$command" --help | help_options >"$tmp/help" || :
    sed -n "/^=head1 SYN/,/^=head1 D/s/^ cbwctl $command SEGMENT//p" "$pod" |
        options >"$tmp/other" || :
    compare "the synopsis of $command"
    sed -n "s/^        $command) options='\(.*\)' ;;/\1/p" "$completion" |
        options >"$tmp/other" || :
    compare "bash completion of $command"
    sed -n 's/^  { "\([a-z-]*\)", no_argument.*/--\1/p
            s/^  { "\([a-z-]*\)", required_argument.*/--\1=/p' \
        "$src/$command.c" | sort -u >"$tmp/other"
    cmp -s "$tmp/help" "$tmp/other" ||
        { diff -u "$tmp/help" "$tmp/other"; fail "$command.c"; }
done

for command in $commands; do
    cbwctl "$command" --help
done | help_options >"$tmp/help"
sed -n 's/^=item B<\(--[a-z-]*=*\)>.*/\1/p' "$pod" |
    grep -v -- '^--\(help\|version\)' | sort -u >"$tmp/other"
compare "the options of the manual page"

# No line of help is too long for a terminal.
for command in '' $commands; do
    cbwctl $command --help | awk 'length > 79 { print; bad = 1 }
                                  END { exit bad }' || fail "a long line"
done

command -v bash >/dev/null && bash -n "$completion"
