/* A board with the sketch rtseg_line, simulated: the same logic (rtseg_line.h) at a pseudo-terminal.
 *
 * Prints the pseudo-terminal's name, then a line for every change of a pin: nanoseconds of the monotonic clock, pin,
 * level. Arguments: microseconds that each frame takes to be looked at (0), as a slow board. Ends when stdin ends.
 */
#define _GNU_SOURCE
#include "rtseg_line/rtseg_line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int port;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint32_t micros(void) { return (uint32_t)(now_ns() / 1000); }

static uint8_t rtseg_may_drive(uint8_t pin) { return pin >= 2 && pin <= 13; }
static void rtseg_make_output(uint8_t pin) { (void)pin; }

static void rtseg_write_pin(uint8_t pin, uint8_t level) {
  char text[64];
  int length = snprintf(text, sizeof text, "%lld %d %d\n", (long long)now_ns(), pin, level);
  if (write(STDOUT_FILENO, text, (size_t)length) != length) exit(1);
}

static void rtseg_send_bytes(const uint8_t *bytes, uint8_t count) {
  /* A computer that does not read: what has no room is lost, as on a wire. */
  if (write(port, bytes, count) < 0 && errno != EAGAIN && errno != EIO) exit(1);
}

static int any_on(void) {
  for (int i = 0; i < RTSEG_LINES; i++)
    if (rtseg.lines[i].is_on) return 1;
  return 0;
}

int main(int count, char **arguments) {
  long slow_us = count > 1 ? atol(arguments[1]) : 0;
  port = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
  if (port < 0 || grantpt(port) || unlockpt(port)) return 1;
  /* Held open here as well, so that the master does not hang up whenever the computer closes its end. */
  int held = open(ptsname(port), O_RDWR | O_NOCTTY);
  struct termios raw;
  if (held < 0 || tcgetattr(held, &raw)) return 1;
  cfmakeraw(&raw);
  tcsetattr(held, TCSANOW, &raw);
  printf("%s\n", ptsname(port));
  fflush(stdout);
  for (;;) {
    struct pollfd ready[2] = {{port, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    /* A board never sleeps; here it looks at its lines often enough while one is on. */
    struct timespec wait = {0, any_on() ? 100000 : 20000000};
    uint8_t bytes[256];
    ppoll(ready, 2, &wait, NULL);
    if (ready[1].revents) return 0;
    ssize_t length = ready[0].revents & POLLIN ? read(port, bytes, sizeof bytes) : 0;
    if (length > 0 && slow_us) {
      struct timespec slow = {slow_us / 1000000, slow_us % 1000000 * 1000};
      nanosleep(&slow, NULL);
    }
    for (ssize_t i = 0; i < length; i++) rtseg_take_byte(bytes[i], micros());
    rtseg_run(micros());
  }
}
