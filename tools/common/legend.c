/*
 * legend.c - counts to colours: the perceptually ordered map "inferno" (matplotlib, CC0), from the point on
 * where it can be told from what is dimmed.
 *
 *     place on the map = FIRST + (1 - FIRST) * (count - 1) / (total - 1)
 */
#include "common/legend.h"

#include <stdio.h>

enum { MARGIN = 24, BAR_HEIGHT = 18, SWATCH = 34, TEXT_SIZE = 2 };
static const float first = 0.34f;
static const colour ground = {18, 18, 24}, ink = {226, 226, 232}, faint = {150, 150, 160},
                    dropped = {56, 56, 56};

static const uint8_t inferno[][3] = {{0, 0, 4},      {22, 11, 57},   {66, 10, 104},  {106, 23, 110},
                                     {147, 38, 103}, {188, 55, 84},  {221, 81, 58},  {243, 120, 25},
                                     {252, 165, 10}, {246, 215, 70}, {252, 255, 164}};

static uint8_t between(uint8_t a, uint8_t b, float share) {
    return (uint8_t)((float)a + share * (float)(b - a) + 0.5f);
}

colour legend_colour(int count, int total) {
    enum { LAST = sizeof inferno / sizeof *inferno - 1 };
    float share = total > 1 ? (float)(count - 1) / (float)(total - 1) : 1.0f;
    float at = (first + (1.0f - first) * share) * LAST;
    int i = at < LAST ? (int)at : LAST - 1;
    float rest = at - (float)i;
    return (colour){between(inferno[i][0], inferno[i + 1][0], rest),
                    between(inferno[i][1], inferno[i + 1][1], rest),
                    between(inferno[i][2], inferno[i + 1][2], rest)};
}

/* A number centred under column x. */
static void draw_number(canvas *c, int x, int y, int number) {
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    canvas_text(c, x - canvas_text_width(TEXT_SIZE, text) / 2, y, TEXT_SIZE, text, ink);
}

/* From 1 to total, a number under its ends and, where there is room for it, its middle. */
static void draw_bar(canvas *c, int x, int y, int width, int total) {
    for (int i = 0; i < width; i++) {
        int count = 1 + (int)((float)(total - 1) * (float)i / (float)(width - 1) + 0.5f);
        canvas_fill(c, x + i, y, 1, BAR_HEIGHT, legend_colour(count, total));
    }
    int numbers = y + BAR_HEIGHT + 6;
    draw_number(c, x + 5, numbers, 1);
    if (total > 3) draw_number(c, x + width * (total / 2 - 1) / (total - 1), numbers, total / 2);
    if (total > 1) draw_number(c, x + width - 10, numbers, total);
}

void legend_draw(canvas *c, int total, const char *note) {
    int top = c->height - LEGEND_HEIGHT, bar = top + 32, numbers = bar + BAR_HEIGHT + 6;
    canvas_fill(c, 0, top, c->width, LEGEND_HEIGHT, ground);
    canvas_text(c, MARGIN, top + 8, TEXT_SIZE, note, faint);
    canvas_fill(c, MARGIN, bar, SWATCH, BAR_HEIGHT, dropped);
    draw_number(c, MARGIN + SWATCH / 2, numbers, 0);
    draw_bar(c, MARGIN + SWATCH + 10, bar, c->width - 2 * MARGIN - SWATCH - 10, total);
}
