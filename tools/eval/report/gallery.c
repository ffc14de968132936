/*
 * gallery.c - pictures with what each policy has kept of them, and what it answered.
 *
 *     chosen of a task: the questions whose answers differ most between policies (largest less smallest
 *     score), the earlier of equals; of those whose kept tokens are noted in the results
 *
 * A picture that is there no more, or that no longer fits into the file, leaves its answers behind.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <vlcache/image.h>

#include "common/exit.h"
#include "common/infile.h"
#include "common/legend.h"
#include "common/memory.h"
#include "common/relief.h"
#include "eval/ask.h"
#include "eval/report/picture.h"
#include "eval/report/section.h"

enum { MOST_CASES = 12, MOST_OF_TASK = 4, MOST_IMAGES = 4, LONGEST_SIDE = 336 };
enum { MOST_BYTES = 4 << 20 }; /* of all pictures, as text */

static const colour ground = {18, 18, 24};

typedef struct gallery {
    const report *report;
    FILE *out;
    size_t bytes;
} gallery;

/* One question in it. */
typedef struct shown {
    const sheet *sheet;
    size_t at; /* index in the sheet */
    const item *item;
    const json_t *record;
} shown;

static double score_at(const shown *s, size_t way) {
    return s->sheet->scores[way * s->sheet->n + s->at];
}

/* ---- which -------------------------------------------------------------------------------------------- */

static shown shown_at(const report *r, const sheet *s, size_t at) {
    size_t index = s->items[at];
    return (shown){s, at, &r->outcome->data->items[index], r->outcome->results->records[index]};
}

static double disagreement(const report *r, const shown *s) {
    const variants *v = r->outcome->variants;
    double low = INFINITY, high = -INFINITY;
    for (size_t p = 1; p < v->n_policies; p++) {
        double score = score_at(s, variants_at(v, p, r->options->studies.budget));
        low = fmin(low, score);
        high = fmax(high, score);
    }
    return high > low ? high - low : 0.0;
}

/* The best candidate that is not taken; s->n when there is none. */
static size_t next_of(const report *r, const sheet *s, const bool *taken) {
    size_t best = s->n;
    double most = -1.0;
    for (size_t i = 0; i < s->n; i++) {
        shown it = shown_at(r, s, i);
        if (taken[i] || !json_object_get(it.record, "cells")) continue;
        double differs = disagreement(r, &it);
        if (differs > most + 1e-9) {
            most = differs;
            best = i;
        }
    }
    return best;
}

static size_t share_of_task(const scores *s) {
    size_t n = s->n ? MOST_CASES / s->n : 1;
    return n < 1 ? 1 : n > MOST_OF_TASK ? MOST_OF_TASK : n;
}

/* ---- pictures ----------------------------------------------------------------------------------------- */

static float scale_of(int width, int height) {
    int longest = width > height ? width : height;
    return longest > LONGEST_SIDE ? (float)LONGEST_SIDE / (float)longest : 1.0f;
}

static bool draw_picture(const vlcache_image *image, canvas *c, float *scale) {
    int width, height;
    vlcache_image_size(image, &width, &height);
    *scale = scale_of(width, height);
    int w = (int)fmaxf(1.0f, rintf((float)width * *scale));
    int h = (int)fmaxf(1.0f, rintf((float)height * *scale));
    return canvas_make(c, w, h, ground) &&
           canvas_picture(c, 0, 0, w, h, vlcache_image_pixels(image), width, height);
}

static int digit_of(char c) {
    const char *found = c ? strchr(SEEN_DIGITS, c) : NULL;
    return found ? (int)(found - SEEN_DIGITS) : 0;
}

/* New memory: the tokens that show picture `image`, with how often they were seen. */
static relief_cell *make_cells(const json_t *record, const char *seen, size_t image, size_t *n) {
    const json_t *all = json_object_get(record, "cells");
    size_t tokens = json_array_size(all), digits = strlen(seen);
    relief_cell *cells = memory_take(tokens + 1, sizeof *cells);
    *n = 0;
    for (size_t i = 0; i < tokens && i < digits; i++) {
        const json_t *one = json_array_get(all, i);
        float at[4];
        if ((size_t)json_integer_value(json_array_get(one, 0)) != image) continue;
        for (size_t k = 0; k < 4; k++) at[k] = (float)json_number_value(json_array_get(one, k + 1));
        cells[(*n)++] = (relief_cell){at[0], at[1], at[2], at[3], digit_of(seen[i])};
    }
    return cells;
}

/* Paints what was kept; a "seen" of NULL leaves the picture as it is. */
static bool paint(const shown *s, const char *seen, size_t image, canvas *c, float scale) {
    if (!seen) return true;
    size_t n;
    relief_cell *cells = make_cells(s->record, seen, image, &n);
    relief_place place = {0, c->width, c->height, (int)strlen(SEEN_DIGITS) - 1, scale};
    bool good = relief_paint(c, &place, cells, n);
    free(cells);
    return good;
}

static void put_uri(gallery *g, const canvas *c, const char *alt) {
    char *uri = picture_uri(c->rgb, c->width, c->height);
    if (!uri) memory_out();
    size_t bytes = strlen(uri);
    if (g->bytes + bytes <= MOST_BYTES) {
        fprintf(g->out, "<img src=\"%s\" width=\"%d\" height=\"%d\" alt=\"%s\"/>\n", uri, c->width, c->height,
                alt);
        g->bytes += bytes;
    } else {
        fputs("<p class=\"note\">The picture does not fit.</p>\n", g->out);
    }
    free(uri);
}

static void put_picture(gallery *g, const shown *s, const char *seen, size_t image) {
    vlcache_image *loaded = NULL;
    infile file;
    canvas c = {0};
    float scale;
    int code = infile_picture(s->item->images[image], &file, &loaded);
    if (code == EXIT_MEMORY) memory_out();
    if (code)
        fputs("<p class=\"note\">The picture cannot be read any more.</p>\n", g->out);
    else if (!draw_picture(loaded, &c, &scale) || !paint(s, seen, image, &c, scale))
        memory_out();
    else
        put_uri(g, &c, seen ? "what was kept of the picture" : "the picture");
    canvas_release(&c);
    vlcache_image_destroy(&loaded);
    infile_release(&file);
}

/* ---- words -------------------------------------------------------------------------------------------- */

/* CIDEr-D has no right and wrong: it is a number alone. */
static void put_verdict(FILE *out, metric m, double score) {
    if (m == METRIC_CIDER || m == METRIC_LIKELIHOOD)
        fprintf(out, "<span class=\"verdict partly\">%s %.0f</span>", metric_title(m), 100.0 * score);
    else if (score >= 1.0 - 1e-9)
        fputs("<span class=\"verdict right\">✓ right</span>", out);
    else if (score <= 1e-9)
        fputs("<span class=\"verdict wrong\">✗ wrong</span>", out);
    else
        fprintf(out, "<span class=\"verdict partly\">◐ partly, %.0f</span>", 100.0 * score);
}

static void put_answer(FILE *out, const json_t *run) {
    const json_t *texts = json_object_get(run, "text");
    fputs("<q>", out);
    for (size_t t = 0; t < json_array_size(texts); t++) {
        if (t) fputs("<br/>", out);
        page_text(out, json_string_value(json_array_get(texts, t)));
    }
    fputs("</q>", out);
}

/* One way: its pictures, its name, its answer. */
static void put_way(gallery *g, const shown *s, size_t way, const char *name) {
    const json_t *run = json_array_get(json_object_get(s->record, "runs"), way);
    const char *seen = json_string_value(json_object_get(run, "seen"));
    fprintf(g->out, "<figure class=\"shot\">\n");
    if (s->item->video) fputs("<p class=\"note\">A video, which is not drawn.</p>\n", g->out);
    for (size_t i = 0; i < s->item->n_images && i < MOST_IMAGES && !s->item->video; i++)
        put_picture(g, s, seen, i);
    fputs("<figcaption><b>", g->out);
    page_text(g->out, name);
    fputs("</b> ", g->out);
    put_verdict(g->out, s->sheet->group->metric, score_at(s, way));
    put_answer(g->out, run);
    fputs("</figcaption></figure>\n", g->out);
}

static void put_turn(FILE *out, const turn *t) {
    fputs("<h3>", out);
    page_text(out, t->question);
    fputs("</h3>\n<p><span class=\"soft\">Expected:</span> ", out);
    for (size_t a = 0; a < t->n_answers; a++) {
        fputs(a ? "; or " : "", out);
        page_text(out, t->answers[a]);
    }
    fputs("</p>\n", out);
}

static void put_case(gallery *g, const shown *s) {
    const report *r = g->report;
    const variants *v = r->outcome->variants;
    fputs("<article class=\"case\">\n", g->out);
    for (size_t t = 0; t < s->item->n_turns; t++) put_turn(g->out, &s->item->turns[t]);
    fputs("<p class=\"note\">", g->out);
    page_text(g->out, s->sheet->group->task);
    fputs(", ", g->out);
    page_text(g->out, s->item->id);
    fputs("</p>\n<div class=\"shots\">\n", g->out);
    put_way(g, s, 0, "full cache");
    for (size_t p = 1; p < v->n_policies; p++)
        put_way(g, s, variants_at(v, p, r->options->studies.budget), v->labels[p]);
    fputs("</div>\n</article>\n", g->out);
}

/* The colours of the heat maps, from one (layer, head) pair to all. */
static void put_scale(FILE *out) {
    enum { STEPS = 64 };
    uint8_t rgb[STEPS * 3];
    for (int i = 0; i < STEPS; i++) {
        colour c = legend_colour(i + 1, STEPS);
        rgb[3 * i] = c.r;
        rgb[3 * i + 1] = c.g;
        rgb[3 * i + 2] = c.b;
    }
    char *uri = picture_uri(rgb, STEPS, 1);
    if (!uri) memory_out();
    fprintf(out,
            "<p class=\"scale\"><span>kept by few</span><img src=\"%s\" alt=\"colours from dark violet to "
            "light yellow\"/><span>by all (layer, KV head) pairs; grey: dropped by all</span></p>\n",
            uri);
    free(uri);
}

static void put_task(gallery *g, const sheet *s, size_t most) {
    bool *taken = memory_take(s->n + 1, sizeof *taken);
    for (size_t k = 0; k < most; k++) {
        size_t at = next_of(g->report, s, taken);
        if (at == s->n) break;
        shown it = shown_at(g->report, s, at);
        taken[at] = true;
        put_case(g, &it);
    }
    free(taken);
}

void section_gallery(const report *r, FILE *out) {
    const scores *s = r->outcome->scores;
    gallery g = {r, out, 0};
    char reading[320], share[16];
    table_share(r->outcome->variants->budgets[r->options->studies.budget], share);
    snprintf(
        reading, sizeof reading,
        "What each policy keeps of a picture at %s of the cache, and what it then answers: bright cells "
        "are visual tokens that many layers and heads keep. Shown are the questions on which the policies "
        "differ most, not typical ones.",
        share);
    page_section(out, "gallery", "Gallery", reading);
    put_scale(out);
    for (size_t i = 0; i < s->n && i < MOST_CASES; i++) put_task(&g, &s->sheets[i], share_of_task(s));
    page_section_end(out);
}
