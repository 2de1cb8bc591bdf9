# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests of docs/recipes.md, after functions.sh.  They run what
# the page says, with our builds in the place of what is installed.

mkdir -p "$tmp/bin" "$tmp/pids"

# The programs as the page calls them.  Every server that stays in the
# background is ended with the test.
cat >"$tmp/bin/nbdkit" <<END
#!/bin/bash
args=()
for arg; do
    case \$arg in
        --filter=cbw) arg=--filter=$filter ;;
        snapshot-access) arg=$plugin ;;
    esac
    args+=("\$arg")
done
case " \$* " in
    *" --run "*) exec $(nbdkit_command) "\${args[@]}" ;;
    *) exec $(nbdkit_command) --pidfile "$tmp/pids/\$\$" "\${args[@]}" ;;
esac
END
cat >"$tmp/bin/cbwctl" <<END
#!/bin/bash
exec "$cbwctl" "\$@"
END
chmod +x "$tmp/bin/nbdkit" "$tmp/bin/cbwctl"
PATH=$tmp/bin:$PATH

gone ()
{
    ! kill -0 "$1" 2>/dev/null
}

# The plugin's servers first: those of the disks go on until then.
end_recipe_servers ()
{
    local f pid
    for f in $(ls -t "$tmp/pids"); do
        pid=$(cat "$tmp/pids/$f")
        kill "$pid" 2>/dev/null || continue
        wait_for 30 gone "$pid" || kill -9 "$pid"
    done
}
at_exit end_recipe_servers

# recipe TITLE: the commands of that section of the page.
recipe ()
{
    awk -v title="## $1" '
        /^## /             { here = $0 == title }
        here && /^```$/    { code = 0 }
        here && code       { print }
        here && /^```sh$/  { code = 1 }
    ' "$top_srcdir/docs/recipes.md" >"$tmp/recipe"
    [ -s "$tmp/recipe" ] || fail "docs/recipes.md has no recipe \"$1\""
    cat "$tmp/recipe"
}

# How all recipes begin.
serve_disk ()
{
    (cd "$tmp" && awk '/^## /{ exit } /^```$/{ code = 0 } code
                       /^```sh$/{ code = 1 }' "$top_srcdir/docs/recipes.md" \
         >"$tmp/begin" && [ -s "$tmp/begin" ] && bash -e "$tmp/begin") ||
        fail "serving the disk"
    answers () { nbdinfo --size "$disk" >/dev/null 2>&1; }
    wait_for 30 answers || fail "the disk is not served"
}

# run_recipe TITLE: run it, where the disk is.
run_recipe ()
{
    recipe "$1"
    run_commands "$1"
}

run_commands ()
{
    (cd "$tmp" && bash -e "$tmp/recipe") >"$tmp/recipe.out" 2>&1 ||
        { cat "$tmp/recipe.out" >&2; fail "the recipe \"$1\""; }
}

# change_between: after each "cbwctl create" or "cbwctl backup" of a recipe,
# keep what the disk is as $tmp/is/NAME, and then let a guest change the disk,
# which has 8 MiB.
change_between ()
{
    mkdir "$tmp/is"
    cat >"$tmp/bin/cbwctl" <<END
#!/bin/bash
set -e
"$cbwctl" "\$@"
case \$1 in create | backup) ;; *) exit 0 ;; esac
cp "$tmp/disk.img" "$tmp/is/\$3"
"$PYTHON" -m nbd -u "$disk" -c - <<PY
import os, random
for i in range (10):
    h.pwrite (os.urandom (5000), random.randrange (8 * 1024 * 1024 - 5000))
    h.zero (70000, random.randrange (8 * 1024 * 1024 - 70000))
    h.trim (65536, random.randrange (128) * 65536)
PY
END
}

# chain_of_days: a disk, and the recipe's images of it, monday to wednesday.
chain_of_days ()
{
    random_file "$tmp/disk.img" 8M
    serve_disk
    change_between
    run_recipe "Back up each day what has changed, as a chain of qcow2 images"
}

# image_is QCOW2 DAY: a sound image, with its backing files, of what
# $tmp/is/DAY is.
image_is ()
{
    qemu-img check "$tmp/$1" >"$tmp/check" 2>&1 ||
        { cat "$tmp/check" >&2; fail "$1"; }
    qemu-img convert -O raw "$tmp/$1" "$tmp/$1.raw"
    same "$tmp/is/$2" "$tmp/$1.raw"
}

# other_host FILE: its server, which writes the file, with the key of guest1.
other_host ()
{
    psktool -u guest1 -p "$tmp/vm1.psk" >/dev/null 2>&1
    start_server target "$NBDKIT" -f -U "$tmp/target.sock" --tls=require \
                 --tls-psk="$tmp/vm1.psk" file "$1"
}

requires_tls ()
{
    requires psktool
    "$NBDKIT" --dump-config | grep -q '^tls=yes' || skip "this nbdkit has no TLS"
}

# run_at_other_host TITLE: run a recipe, where $tmp/target.sock is the other
# host's server.
run_at_other_host ()
{
    recipe "$1"
    local here="nbds+unix://guest1@/?socket=$tmp/target.sock"
    sed -i "s,nbds://guest1@backup.example/?,$here\&," "$tmp/recipe"
    expect_in "$tmp/recipe" "nbds+unix"
    run_commands "$1"
}

# guestfs_recipe TITLE: as run_recipe; libguestfs wants a kernel that it can
# read.
guestfs_recipe ()
{
    (run_recipe "$1") >"$tmp/log" 2>&1 && return
    cat "$tmp/log" >&2
    if grep -q "supermin\|could not create appliance" "$tmp/log"; then
        skip "libguestfs cannot make its appliance here"
    fi
    exit 1
}
