/* The sketch's logic with a clock of the test's own. Each line of input is a time in microseconds and, after it, bytes
 * in hexadecimal that come at that time; each is answered by what happened, and a full stop.
 */
#include "rtseg_line.h"

#include <stdio.h>

static uint8_t rtseg_may_drive(uint8_t pin) { return pin >= 2 && pin <= 13; }
static void rtseg_make_output(uint8_t pin) { printf("output %d\n", pin); }
static void rtseg_write_pin(uint8_t pin, uint8_t level) { printf("pin %d %d\n", pin, level); }

static void rtseg_send_bytes(const uint8_t *bytes, uint8_t count) {
  printf("sent ");
  for (uint8_t i = 0; i < count; i++) printf("%02x", bytes[i]);
  printf("\n");
}

int main(void) {
  static char line[65536];
  while (fgets(line, sizeof line, stdin)) {
    unsigned long now_us;
    int at, length;
    unsigned byte;
    sscanf(line, "%lu%n", &now_us, &at);
    while (sscanf(line + at, " %2x%n", &byte, &length) == 1) {
      rtseg_take_byte((uint8_t)byte, (uint32_t)now_us);
      at += length;
    }
    rtseg_run((uint32_t)now_us);
    printf(".\n");
    fflush(stdout);
  }
  return 0;
}
