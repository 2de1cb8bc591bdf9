#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# cbwctl status --watch: blocks with rates and bars where there is no
# terminal; in one it draws in place, fits the width, and on q or ^C ends
# with the terminal restored.

. ./functions.sh
set -e

random_file "$tmp/disk" 4M
start_disk file "$tmp/disk" cbw-shm="$shm" cbw-cluster-size=64k
cbwctl create "$shm" one >/dev/null

cbwctl status "$shm" --watch --interval=0.05 --count=3 >"$tmp/out"
[ "$(grep -c '^one  .* live$' "$tmp/out")" -eq 3 ] ||
    { cat "$tmp/out"; fail "3 blocks"; }
[ "$(grep -c '^one  .* 0 bytes  *snapshot$' "$tmp/out")" -eq 3 ] ||
    { cat "$tmp/out"; fail "3 tables of points"; }

rm "$tmp/out"
"$cbwctl" status "$shm" --watch --interval=0.3 >"$tmp/out" &
watch=$!
shown ()
{
    grep -qs COPYING "$tmp/out"
}
half ()
{
    grep -q '50\.0 %' "$tmp/out"
}
wait_for 20 shown || fail "nothing was shown"
guest <<PY
h.pwrite (b"1" * 65536 * 32, 0)
PY
wait_for 20 half || { cat "$tmp/out"; fail "the copies are not shown"; }
kill -INT $watch
wait $watch
grep -q '^one .*\[#*\.*\] ' "$tmp/out" || fail "no bar"
grep -q '^one .*\[####\.\.\.\.\]  50\.0 %  *2 MiB  *snapshot$' "$tmp/out" ||
    { cat "$tmp/out"; fail "what has changed is not shown"; }
grep -q '^copied: [1-9][0-9]* clusters/s' "$tmp/out" ||
    { cat "$tmp/out"; fail "no rate"; }
if grep -q "$(printf '\033')" "$tmp/out"; then fail "control characters"; fi

cbwctl status "$shm" --watch --interval=0.05 --count=2 --json >"$tmp/lines"
[ "$(wc -l <"$tmp/lines")" -eq 2 ] || fail "not a line each time"
tail -n 1 "$tmp/lines" | json "j['snapshots'][0]['copied-clusters'] == 32"

# The segment is removed meanwhile: an error, not a frozen picture.
cp "$shm" "$tmp/copy"
rm "$tmp/out"
cbwctl status "$tmp/copy" --watch --interval=0.1 >"$tmp/out" 2>"$tmp/err" &
watch=$!
wait_for 20 shown || fail "nothing was shown"
rm "$tmp/copy"
rc=0
wait $watch || rc=$?
[ $rc -eq 1 ] || fail "status $rc after the segment was removed"
expect_in "$tmp/err" "there is no such segment"

# In a terminal.
"$PYTHON" - "$cbwctl" "$shm" <<'PY'
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

def run (args, columns, end, env = {}):
    pid, fd = pty.fork ()
    if pid == 0:
        os.environ.update ({"TERM": "xterm"} | env)
        # Give the parent time to set the size.
        sys.stdin.readline ()
        os.execv (args[0], args)
    fcntl.ioctl (fd, termios.TIOCSWINSZ, struct.pack ("HHHH", 12, columns, 0, 0))
    os.write (fd, b"\n")
    out, sent, deadline = b"", False, time.monotonic () + 30
    before = None
    while time.monotonic () < deadline:
        if not sent and end and out.count (b"STATE") >= 2:
            now = termios.tcgetattr (fd)
            assert not now[3] & termios.ECHO, "keys are echoed"
            end (pid, fd)
            sent = True
        if select.select ([fd], [], [], 0.1)[0]:
            try:
                data = os.read (fd, 65536)
            except OSError:
                break
            if not data:
                break
            out += data
    try:
        attr = termios.tcgetattr (fd)
        assert attr[3] & termios.ECHO and attr[3] & termios.ICANON
    except termios.error:
        pass
    _, status = os.waitpid (pid, 0)
    assert os.waitstatus_to_exitcode (status) == 0, (status, out)
    return out.decode ()

watch = [sys.argv[1], "status", sys.argv[2], "--watch", "--interval=0.1"]
for end in [lambda pid, fd: os.write (fd, b"q"),
            lambda pid, fd: os.write (fd, b"\x03"),
            lambda pid, fd: os.kill (pid, signal.SIGTERM)]:
    out = run (watch, 70, end)
    assert "\033[?1049h" in out and "\033[?25l" in out
    assert out.rstrip ().endswith ("\033[?25h\033[?1049l"), repr (out[-50:])
    # After the echo of what started it.
    body = out[out.index ("\033[?1049h"):]
    for l in re.sub (r"\033\[[?0-9]*[a-zA-Z]", "", body).split ("\r\n"):
        assert len (l) <= 70, l

# The picture of map: colours in a terminal only, and not if unwanted.
picture = [sys.argv[1], "map", sys.argv[2], "one"]
out = run (picture, 50, None)
assert "\033[" in out
for l in re.sub (r"\033\[[?0-9;]*[a-zA-Z]", "", out).split ("\r\n"):
    assert len (l) <= 50 or ":" in l, l
assert "\033[" not in run (picture, 50, None, {"NO_COLOR": "1"})
PY
