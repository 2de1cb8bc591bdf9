/* SPDX-License-Identifier: BSD-3-Clause */

/* The terminal: its size, colours, keys and signals.  term_leave puts back what
 * term_enter has changed.
 */

#include <config.h>

#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "term.h"
#include "utils/clock.h"

#define ENTER_SCREEN "\033[?1049h\033[?25l" /* alternate, no cursor */
#define LEAVE_SCREEN "\033[?25h\033[?1049l"

static volatile sig_atomic_t ended, hung_up, stopped, resized;
static sigset_t outside;        /* the signal mask while we wait */
static struct termios cooked;
static bool raw, screen;

bool
term_is_tty (void)
{
  return isatty (STDOUT_FILENO);
}

static unsigned
environment (const char *name, unsigned otherwise)
{
  const char *value = getenv (name);
  const long n = value ? strtol (value, NULL, 10) : 0;

  return n > 0 && n < 10000 ? (unsigned) n : otherwise;
}

unsigned
term_columns (void)
{
  struct winsize ws;

  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
    return ws.ws_col;
  return environment ("COLUMNS", 80);
}

unsigned
term_lines (void)
{
  struct winsize ws;

  if (ioctl (STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 0)
    return ws.ws_row;
  return environment ("LINES", 24);
}

bool
term_colour (void)
{
  const char *no_color = getenv ("NO_COLOR"), *term = getenv ("TERM");

  return term_is_tty () && (no_color == NULL || *no_color == '\0') &&
    term && strcmp (term, "dumb") != 0;
}

bool
term_utf8 (void)
{
  return strcmp (nl_langinfo (CODESET), "UTF-8") == 0;
}

static void
note_signal (int sig)
{
  switch (sig) {
  case SIGTSTP: stopped = 1; break;
  case SIGWINCH: resized = 1; break;
  case SIGHUP: hung_up = 1;     /* and: */
    __attribute__ ((fallthrough));
  default: ended = 1;
  }
}

/* Who started us with nohup does not want to be told of it. */
static bool
is_ignored (int sig)
{
  struct sigaction sa;

  return sigaction (sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN;
}

/* Signals are let in only while we wait, so none is missed. */
void
term_catch_signals (void)
{
  static const int signals[] = {
    SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH
  };
  const struct sigaction sa = { .sa_handler = note_signal };
  sigset_t set;
  size_t i;

  sigemptyset (&set);
  for (i = 0; i < sizeof signals / sizeof signals[0]; ++i) {
    if (signals[i] == SIGHUP && is_ignored (SIGHUP))
      continue;
    sigaction (signals[i], &sa, NULL);
    sigaddset (&set, signals[i]);
  }
  sigprocmask (SIG_BLOCK, &set, &outside);
}

static void
enter_screen (void)
{
  struct termios t;

  if (!term_is_tty ())
    return;
  screen = true;
  raw = tcgetattr (STDIN_FILENO, &cooked) == 0;
  if (raw) {
    t = cooked;
    t.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
    tcsetattr (STDIN_FILENO, TCSANOW, &t);
  }
  fputs (ENTER_SCREEN, stdout);
  fflush (stdout);
}

void
term_enter (void)
{
  term_catch_signals ();
  enter_screen ();
}

void
term_leave (void)
{
  if (!screen)
    return;
  fputs (LEAVE_SCREEN, stdout);
  fflush (stdout);
  if (raw)
    tcsetattr (STDIN_FILENO, TCSANOW, &cooked);
}

/* A key was typed, or the terminal is gone. */
static void
read_key (void)
{
  char c;

  if (read (STDIN_FILENO, &c, 1) != 1 || c == 'q' || c == 'Q')
    ended = 1;
}

bool
term_wait (uint64_t ns)
{
  const uint64_t end = now_monotonic_ns () + ns;
  struct pollfd key = { .fd = raw ? STDIN_FILENO : -1, .events = POLLIN };
  struct timespec ts;
  uint64_t now;

  while (!ended && !resized && (now = now_monotonic_ns ()) < end) {
    ts.tv_sec = (time_t) ((end - now) / NS_PER_SEC);
    ts.tv_nsec = (long) ((end - now) % NS_PER_SEC);
    if (ppoll (&key, 1, &ts, &outside) > 0)
      read_key ();
    if (stopped) {
      stopped = 0;
      term_leave ();
      raise (SIGSTOP);
      if (screen)
        enter_screen ();
      break;
    }
  }
  resized = 0;
  return ended;
}

bool
term_hung_up (void)
{
  return hung_up;
}
