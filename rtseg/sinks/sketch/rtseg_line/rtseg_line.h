/* The logic of the sketch rtseg_line: frames in, pins out. No Arduino call stands here, so that a test on a computer
 * runs the very same code (simulated_board.c). docs/sinks/serial.md describes the frames.
 *
 * A pin is high only while the computer renews its lease, never longer than its max_on, and never after a frame that
 * came damaged, out of order, or not at all. Whatever is not understood turns everything off.
 *
 * Times are unsigned microseconds that wrap after 71 minutes: only differences are compared.
 */
#ifndef RTSEG_LINE_H
#define RTSEG_LINE_H

#include <stdint.h>
#include <string.h>

#define RTSEG_VERSION 1
#define RTSEG_LINES 8
#define RTSEG_FRAME 14
#define RTSEG_START 0xA5
#define RTSEG_LONGEST_LEASE_US 60000000UL

/* Kinds of frames: from the computer, and to it. */
enum { RTSEG_HELLO = 1, RTSEG_SETUP, RTSEG_ON, RTSEG_RENEW, RTSEG_OFF, RTSEG_PING };
enum { RTSEG_READY = 65, RTSEG_SET_UP, RTSEG_IS_ON, RTSEG_IS_OFF, RTSEG_EXPIRED, RTSEG_REFUSED, RTSEG_PONG, RTSEG_FAULT };
/* What SETUP sets, in its field event. */
enum { RTSEG_PIN = 1, RTSEG_PERIOD_US, RTSEG_WIDTH_US, RTSEG_MAX_ON_US };
/* The value of EXPIRED, REFUSED and FAULT: why. */
enum { RTSEG_LEASE_OVER = 1, RTSEG_MAX_ON_OVER };
enum { RTSEG_NO_SUCH_LINE = 1, RTSEG_NO_SUCH_PIN, RTSEG_BAD_VALUE, RTSEG_NOT_SET_UP, RTSEG_IN_USE };
enum { RTSEG_DAMAGED = 1, RTSEG_OUT_OF_ORDER, RTSEG_SILENT };

typedef struct {
  uint8_t pin, is_set_up, is_on, level;
  uint32_t event;                 /* the newest that turned it on */
  uint32_t on_us, lease_us, lease_from_us, pulse_us;
  uint32_t period_us, width_us, max_on_us; /* period 0: steady */
} rtseg_line;

typedef struct {
  rtseg_line lines[RTSEG_LINES];
  uint8_t frame[RTSEG_FRAME], length;
  uint8_t is_greeted, next_number, sent_number;
  uint32_t heard_us, watchdog_us;
} rtseg_board;

/* What the sketch, or the simulation, provides. */
static uint8_t rtseg_may_drive(uint8_t pin);
static void rtseg_make_output(uint8_t pin);
static void rtseg_write_pin(uint8_t pin, uint8_t level);
static void rtseg_send_bytes(const uint8_t *bytes, uint8_t count);

static rtseg_board rtseg;

/* CRC-16/CCITT-FALSE. */
static uint16_t rtseg_crc(const uint8_t *bytes, uint8_t count) {
  uint16_t crc = 0xFFFF;
  for (uint8_t i = 0; i < count; i++) {
    crc ^= (uint16_t)((uint16_t)bytes[i] << 8);
    for (uint8_t bit = 0; bit < 8; bit++) crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
  }
  return crc;
}

static uint32_t rtseg_number_at(const uint8_t *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void rtseg_put_number(uint8_t *bytes, uint32_t number) {
  for (uint8_t i = 0; i < 4; i++) bytes[i] = (uint8_t)(number >> (8 * i));
}

static void rtseg_tell(uint8_t kind, uint8_t line, uint32_t event, uint32_t value) {
  uint8_t frame[RTSEG_FRAME];
  frame[0] = RTSEG_START;
  frame[1] = kind;
  frame[2] = line;
  frame[3] = rtseg.sent_number++;
  rtseg_put_number(frame + 4, event);
  rtseg_put_number(frame + 8, value);
  uint16_t crc = rtseg_crc(frame + 1, RTSEG_FRAME - 3);
  frame[12] = (uint8_t)crc;
  frame[13] = (uint8_t)(crc >> 8);
  rtseg_send_bytes(frame, RTSEG_FRAME);
}

static void rtseg_set_level(rtseg_line *line, uint8_t level) {
  if (line->level == level) return;
  line->level = level;
  rtseg_write_pin(line->pin, level);
}

static void rtseg_line_off(rtseg_line *line) {
  line->is_on = 0;
  rtseg_set_level(line, 0);
}

static void rtseg_all_off(void) {
  for (uint8_t i = 0; i < RTSEG_LINES; i++)
    if (rtseg.lines[i].is_set_up) rtseg_line_off(&rtseg.lines[i]);
}

/* Everything off, and nothing taken until the computer greets again. */
static void rtseg_fault(uint8_t why, uint32_t now_us) {
  rtseg_all_off();
  rtseg.is_greeted = 0;
  rtseg_tell(RTSEG_FAULT, 0, now_us, why);
}

static void rtseg_greet(uint32_t session, uint32_t value) {
  rtseg_all_off();
  for (uint8_t i = 0; i < RTSEG_LINES; i++) memset(&rtseg.lines[i], 0, sizeof(rtseg_line));
  rtseg.watchdog_us = (value >> 8) * 1000UL;
  rtseg.is_greeted = (uint8_t)((value & 0xFF) == RTSEG_VERSION && rtseg.watchdog_us > 0);
  rtseg_tell(RTSEG_READY, 0, session, RTSEG_VERSION | (uint32_t)RTSEG_LINES << 8);
}

/* One setting of a line; returns why it is refused, 0 where it is taken. */
static uint8_t rtseg_set_up(uint8_t index, uint32_t what, uint32_t value) {
  rtseg_line *line = &rtseg.lines[index];
  if (line->is_on) return RTSEG_IN_USE;
  if (what == RTSEG_PIN) {
    if (value > 255 || !rtseg_may_drive((uint8_t)value)) return RTSEG_NO_SUCH_PIN;
    line->pin = (uint8_t)value;
    line->is_set_up = 1;
    line->level = 0;
    rtseg_write_pin(line->pin, 0); /* before it is an output, so that it never is high for a moment */
    rtseg_make_output(line->pin);
    rtseg_write_pin(line->pin, 0);
  } else if (what == RTSEG_PERIOD_US) {
    line->period_us = value;
  } else if (what == RTSEG_WIDTH_US) {
    line->width_us = value;
  } else if (what == RTSEG_MAX_ON_US) {
    if (value > 0x7FFFFFFFUL) return RTSEG_BAD_VALUE;
    line->max_on_us = value;
  } else {
    return RTSEG_BAD_VALUE;
  }
  return 0;
}

/* Longer than what is left of the lease it has: two events may hold one line. */
static void rtseg_extend(rtseg_line *line, uint32_t hold_us, uint32_t now_us) {
  uint32_t gone_us = now_us - line->lease_from_us;
  if (gone_us < line->lease_us && line->lease_us - gone_us >= hold_us) return;
  line->lease_from_us = now_us;
  line->lease_us = hold_us;
}

static void rtseg_turn_on(uint8_t index, uint32_t event, uint32_t hold_us, uint32_t now_us) {
  rtseg_line *line = &rtseg.lines[index];
  if (!line->is_set_up || !line->max_on_us) {
    rtseg_tell(RTSEG_REFUSED, index, event, RTSEG_NOT_SET_UP);
    return;
  }
  if (!hold_us || hold_us > RTSEG_LONGEST_LEASE_US || (line->period_us && line->width_us >= line->period_us)) {
    rtseg_tell(RTSEG_REFUSED, index, event, RTSEG_BAD_VALUE);
    return;
  }
  line->event = event;
  if (!line->is_on) {
    line->is_on = 1;
    line->on_us = line->pulse_us = line->lease_from_us = now_us;
    line->lease_us = hold_us;
    rtseg_set_level(line, 1);
  } else {
    rtseg_extend(line, hold_us, now_us);
  }
  rtseg_tell(RTSEG_IS_ON, index, event, now_us);
}

static void rtseg_run(uint32_t now_us);

static void rtseg_take_frame(uint32_t now_us) {
  rtseg_run(now_us); /* a lease that is over is over before anything can renew it */
  const uint8_t *frame = rtseg.frame;
  uint8_t kind = frame[1], index = frame[2], why = 0;
  uint32_t event = rtseg_number_at(frame + 4), value = rtseg_number_at(frame + 8);
  if (kind == RTSEG_HELLO) {
    rtseg.next_number = (uint8_t)(frame[3] + 1);
    rtseg.heard_us = now_us;
    rtseg_greet(event, value);
    return;
  }
  if (!rtseg.is_greeted) return;
  if (frame[3] != rtseg.next_number) { /* one before it was lost: perhaps an OFF */
    rtseg_fault(RTSEG_OUT_OF_ORDER, now_us);
    return;
  }
  rtseg.next_number++;
  rtseg.heard_us = now_us;
  if (kind == RTSEG_PING) {
    rtseg_tell(RTSEG_PONG, 0, event, now_us);
    return;
  }
  if (index >= RTSEG_LINES) {
    rtseg_tell(RTSEG_REFUSED, index, event, RTSEG_NO_SUCH_LINE);
    return;
  }
  if (kind == RTSEG_SETUP) {
    why = rtseg_set_up(index, event, value);
    rtseg_tell(why ? RTSEG_REFUSED : RTSEG_SET_UP, index, event, why ? why : value);
  } else if (kind == RTSEG_ON) {
    rtseg_turn_on(index, event, value, now_us);
  } else if (kind == RTSEG_RENEW) { /* never turns anything on */
    if (rtseg.lines[index].is_on && value <= RTSEG_LONGEST_LEASE_US) rtseg_extend(&rtseg.lines[index], value, now_us);
  } else if (kind == RTSEG_OFF) {
    if (rtseg.lines[index].is_set_up) rtseg_line_off(&rtseg.lines[index]);
    rtseg_tell(RTSEG_IS_OFF, index, event, now_us);
  } else {
    rtseg_fault(RTSEG_DAMAGED, now_us);
  }
}

/* A byte from the computer. */
static void rtseg_take_byte(uint8_t byte, uint32_t now_us) {
  rtseg.frame[rtseg.length++] = byte;
  while (rtseg.length) {
    uint8_t skip = 0;
    if (rtseg.frame[0] == RTSEG_START) {
      if (rtseg.length < RTSEG_FRAME) return;
      uint16_t crc = rtseg_crc(rtseg.frame + 1, RTSEG_FRAME - 3);
      if (rtseg.frame[12] == (uint8_t)crc && rtseg.frame[13] == (uint8_t)(crc >> 8)) {
        rtseg.length = 0;
        rtseg_take_frame(now_us);
        return;
      }
    }
    /* Damaged, or not at a frame's beginning: look for the next one in what is here. */
    if (rtseg.is_greeted) rtseg_fault(RTSEG_DAMAGED, now_us);
    do skip++;
    while (skip < rtseg.length && rtseg.frame[skip] != RTSEG_START);
    rtseg.length = (uint8_t)(rtseg.length - skip);
    memmove(rtseg.frame, rtseg.frame + skip, rtseg.length);
  }
}

/* To be called again and again, as often as can be. */
static void rtseg_run(uint32_t now_us) {
  if (rtseg.is_greeted && now_us - rtseg.heard_us >= rtseg.watchdog_us) rtseg_fault(RTSEG_SILENT, now_us);
  for (uint8_t i = 0; i < RTSEG_LINES; i++) {
    rtseg_line *line = &rtseg.lines[i];
    uint8_t why = 0;
    if (!line->is_on) continue;
    if (now_us - line->lease_from_us >= line->lease_us) why = RTSEG_LEASE_OVER;
    if (now_us - line->on_us >= line->max_on_us) why = RTSEG_MAX_ON_OVER;
    if (why) {
      rtseg_line_off(line);
      rtseg_tell(RTSEG_EXPIRED, i, line->event, why);
    } else if (line->period_us) {
      while (now_us - line->pulse_us >= line->period_us) line->pulse_us += line->period_us;
      rtseg_set_level(line, (uint8_t)(now_us - line->pulse_us < line->width_us));
    }
  }
}

#endif
