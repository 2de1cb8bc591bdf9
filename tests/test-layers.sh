#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A folder includes only those that docs/architecture.md has before it;
# common/ knows neither nbdkit nor, but for three files, libnbd; of the filter,
# only below/ and what has no folder knows nbdkit; and only cbw.c speaks in
# nbdkit's callbacks.

. ./functions.sh
set -e

cd "$top_srcdir"
order=$(sed -n 's/^ *\(utils, image, .*\), then the files of .*/\1/p' \
            docs/architecture.md | tr -d ,)
[ -n "$order" ] || fail "docs/architecture.md gives no order of folders"

declare -A rank
for folder in $order; do
    rank[$folder]=$(( ${#rank[@]} + 1 ))
    [ -s "common/$folder/README.md" ] ||
        [ -s "filters/cbw/$folder/README.md" ] ||
        fail "$folder has no README.md"
done

n=0
while IFS=: read -r file include; do
    from=${file#common/}
    from=${from#filters/cbw/}
    from=${from%%/*}
    to=${include#*\"}
    case $to in
        */*) to=${to%%/*} ;;
        *) continue ;;                  # one of its own folder
    esac
    n=$(( n + 1 ))
    [ -n "${rank[$to]}" ] || fail "$file includes from $to, an unknown folder"
    # What has no folder stands above them all.
    [ "${rank[$from]:-99}" -ge "${rank[$to]}" ] ||
        fail "$file includes from $to, which is above $from"
done < <(find common filters -name '*.[ch]' \
              -exec grep -H '^#include "' {} +)
[ "$n" -gt 100 ] || fail "only $n includes were found"

# The plugin and the tool know only common/ and what is beside them.
for dir in plugins/snapshot-access tools/cbwctl; do
    for include in $(sed -n 's/^#include "\(.*\)"/\1/p' "$dir"/*.[ch]); do
        [ -e "common/$include" ] || [ -e "$dir/$include" ] ||
            fail "$dir includes $include"
    done
done

# none PATTERN FILE...: no file has it.
none ()
{
    local pattern=$1
    shift
    ! grep -nE "$pattern" "$@" || fail "there should be no $pattern there"
}
mapfile -t files < <(find common -name '*.[ch]')
none 'nbdkit-(filter|plugin)\.h|\<nbdkit_[a-z_]+ \(' "${files[@]}"
mapfile -t files < <(find common filters plugins tools -name '*.[ch]' \
                          ! -name 'nbd-command.*' ! -name 'nbd-conn.*' \
                          ! -name 'nbd-handle.*')
none '<libnbd\.h>' "${files[@]}"
mapfile -t files < <(find filters/cbw/*/ -name '*.[ch]' ! -path '*/below/*')
none '<nbdkit-|\<nbdkit_[a-z_]+ \(' "${files[@]}"
mapfile -t files < <(find filters -name '*.[ch]' ! -name cbw.c)
none 'struct nbdkit_filter|NBDKIT_REGISTER_FILTER' "${files[@]}"
