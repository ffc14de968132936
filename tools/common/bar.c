/*
 * bar.c - one line of progress on a terminal, redrawn at most ten times a second, as wide as the terminal.
 *
 *     loading weights    [###########-----------------]  43%  12.9 of 30.0 MiB
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/console.h"
#include "common/interrupt.h"

enum { LINE_BYTES = 512, MAX_BAR = 40, MIN_BAR = 8, DRAWS_A_SECOND = 10 };

/* Columns that may be used: the last one would wrap on some terminals. */
static int columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0) return 79;
    return size.ws_col < LINE_BYTES / 2 ? size.ws_col - 1 : LINE_BYTES / 2;
}

/* Whether this is the first time that a stage is named. */
static bool is_new(console *c, const char *stage) {
    size_t used = strlen(c->shown), length = strlen(stage);
    for (const char *at = c->shown; (at = strstr(at, stage)); at += length)
        if (at[length] == '\n' && (at == c->shown || at[-1] == '\n')) return false;
    if (used + length + 2 > sizeof c->shown) return false;
    snprintf(c->shown + used, sizeof c->shown - used, "%s\n", stage);
    return true;
}

/* A stage shows at once, the same one ten times a second; ten a second in all, but for stages that nobody has
 * seen: on a machine that goes through the first ten within a second, the eleventh may be the long one. */
static bool is_due(console *c, const char *stage, double now) {
    bool same = c->drawn && strcmp(c->stage, stage) == 0, first = is_new(c, stage);
    if (now - c->second >= 1.0) {
        c->second = now;
        c->draws = 0;
    }
    if (!first && (c->draws >= DRAWS_A_SECOND || (same && now - c->last < 1.0 / DRAWS_A_SECOND)))
        return false;
    c->draws++;
    c->last = now;
    snprintf(c->stage, sizeof c->stage, "%s", stage);
    return true;
}

/* "12.9 MiB of 30.0 MiB" where the unit is bytes, otherwise "3 of 12", or "3 so far" with no total known. */
static void count_text(const char *stage, uint64_t done, uint64_t total, char *text, size_t capacity) {
    char a[32], b[32];
    if (strcmp(stage, "loading weights") == 0) {
        console_bytes(done, a);
        console_bytes(total, b);
        snprintf(text, capacity, "%s of %s", a, b);
    } else if (total)
        snprintf(text, capacity, "%llu of %llu", (unsigned long long)done, (unsigned long long)total);
    else
        snprintf(text, capacity, "%llu so far", (unsigned long long)done);
}

/* The bar takes what the words leave; a narrow terminal gets the words alone, cut off at its edge. */
static void compose(const char *stage, uint64_t done, uint64_t total, const char *note, int width,
                    char line[LINE_BYTES]) {
    char count[160], bar[MAX_BAR + 1];
    count_text(stage, done, total, count, sizeof count - sizeof(((console *)0)->note));
    strcat(count, note);
    int room = width - 19 - 2 - 2 - 6 - (int)strlen(count);
    double share = total ? (double)done / (double)total : 0.0;
    if (share > 1.0) share = 1.0;
    if (room > MAX_BAR) room = MAX_BAR;
    if (total && room >= MIN_BAR) {
        int full = (int)(share * room);
        memset(bar, '#', (size_t)full);
        memset(bar + full, '-', (size_t)(room - full));
        bar[room] = 0;
        snprintf(line, LINE_BYTES, "%-19s [%s] %3.0f%%  %s", stage, bar, 100 * share, count);
    } else if (total)
        snprintf(line, LINE_BYTES, "%s %.0f%%", stage, 100 * share);
    else
        snprintf(line, LINE_BYTES, "%-19s %s", stage, count);
    if (width >= 0 && (int)strlen(line) > width) line[width] = 0;
}

bool console_progress(void *user, const char *stage, uint64_t done, uint64_t total) {
    console *c = user;
    char line[LINE_BYTES];
    if (c->bars && !c->open_line &&
        is_due(c, stage, clock_seconds())) { /* never over an answer that has begun */
        compose(stage, done, total, c->note, columns(), line);
        fprintf(stderr, "\r%s\033[K", line);
        fflush(stderr);
        c->drawn = true;
    }
    return !interrupt_seen();
}

void console_erase(console *c) {
    if (!c->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    c->drawn = false;
}
