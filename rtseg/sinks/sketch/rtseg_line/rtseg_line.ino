/* rtseg_line: lines for rtseg's serial sink, on an Arduino (Uno, Nano, Mega, Leonardo) or a Teensy.
 *
 * Change BAUD and PINS here if you must; everything else comes from the trigger file. See docs/sinks/serial.md for the
 * wiring: every pin that drives something needs a resistor of 10 kilohm to ground, for it is not driven while the board
 * starts.
 */
#include "rtseg_line.h"

static const unsigned long BAUD = 500000; /* as `baud` of [sinks.NAME]; 500000 is exact on a board of 16 MHz */
static const uint8_t PINS[] = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}; /* those that may be driven: not 0 and 1 */

static uint8_t rtseg_may_drive(uint8_t pin) {
  for (uint8_t i = 0; i < sizeof(PINS); i++)
    if (PINS[i] == pin) return 1;
  return 0;
}

static void rtseg_make_output(uint8_t pin) { pinMode(pin, OUTPUT); }
static void rtseg_write_pin(uint8_t pin, uint8_t level) { digitalWrite(pin, level ? HIGH : LOW); }
static void rtseg_send_bytes(const uint8_t *bytes, uint8_t count) { Serial.write(bytes, count); }

void setup() { Serial.begin(BAUD); }

void loop() {
  if (Serial.available() > 0) rtseg_take_byte((uint8_t)Serial.read(), micros());
  rtseg_run(micros()); /* after every byte, however much comes */
}
