/*
 * data.c - from a file of JSON lines to items; every refusal names file, line and field.
 */
#include "eval/data.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vlcache/video.h>

#include "common/exit.h"
#include "common/infile.h"
#include "common/interrupt.h"
#include "common/printable.h"
#include "eval/hash.h"

enum { WHY_BYTES = 256, MOST_TOKENS = 1 << 20 };

/* A file being read. `why` is empty as long as the line is good. */
typedef struct reader {
    data *data;
    char why[WHY_BYTES];
    bool no_memory;
} reader;

static bool refuse(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(reader *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, sizeof r->why, format, args);
    va_end(args);
    return false;
}

static bool no_memory(reader *r) {
    r->no_memory = true;
    return refuse(r, "out of host memory");
}

/* ---- one line ------------------------------------------------------------------------------------------ */

/* PATH of a picture: beside the data file, unless it is absolute. New memory, NULL when there is none. */
static char *picture_path(const char *file, const char *image) {
    const char *slash = strrchr(file, '/');
    size_t folder = *image == '/' || !slash ? 0 : (size_t)(slash - file) + 1;
    char *path = malloc(folder + strlen(image) + 1);
    if (path) {
        memcpy(path, file, folder);
        strcpy(path + folder, image);
    }
    return path;
}

static bool take_picture(reader *r, item *it, const json_t *name, const char *field) {
    if (!json_is_string(name) || !*json_string_value(name))
        return refuse(r, "\"%s\": must be the path of a picture", field);
    char *path = picture_path(r->data->path, json_string_value(name));
    if (!path) return no_memory(r);
    it->images[it->n_images++] = path;
    if (access(path, R_OK)) return refuse(r, "picture %s: %s", path, strerror(errno));
    return true;
}

/* What goes with a video. */
static bool take_rate(reader *r, item *it, bool file) {
    const json_t *fps = json_object_get(it->json, "fps"), *frames = json_object_get(it->json, "frames");
    double rate = fps ? json_number_value(fps) : 1;
    json_int_t n = json_integer_value(frames);
    if (fps && (file || !json_is_number(fps) || !(rate >= VLCACHE_VIDEO_MIN_FPS) ||
                !(rate <= VLCACHE_VIDEO_MAX_FPS)))
        return refuse(r, "\"fps\": is of a list of frames, from %g to %g a second", VLCACHE_VIDEO_MIN_FPS,
                      VLCACHE_VIDEO_MAX_FPS);
    if (frames && (!json_is_integer(frames) || n < 1 || n > VLCACHE_VIDEO_MAX_FRAMES))
        return refuse(r, "\"frames\": must be a whole number from 1 to %d", VLCACHE_VIDEO_MAX_FRAMES);
    it->video = true;
    it->fps = file ? 0 : rate;
    it->n_frames = (int)n;
    return true;
}

static bool take_video(reader *r, item *it, const json_t *video) {
    bool file = json_is_string(video);
    if (json_object_get(it->json, "image") || json_object_get(it->json, "images"))
        return refuse(r, "\"video\": stands beside pictures: give one of them");
    if (!file && !json_array_size(video))
        return refuse(r, "\"video\": must be the path of a file, or an array of frames");
    it->images = calloc(json_array_size(video) + 1, sizeof *it->images);
    if (!it->images) return no_memory(r);
    if (file && !take_picture(r, it, video, "video")) return false;
    for (size_t i = 0; i < json_array_size(video); i++)
        if (!take_picture(r, it, json_array_get(video, i), "video")) return false;
    return take_rate(r, it, file);
}

static bool take_pictures(reader *r, item *it) {
    const json_t *video = json_object_get(it->json, "video");
    if (video) return take_video(r, it, video);
    const json_t *one = json_object_get(it->json, "image"), *many = json_object_get(it->json, "images");
    if (one && many) return refuse(r, "\"image\" and \"images\": give one of them");
    if (many && !json_array_size(many)) return refuse(r, "\"images\": must be an array of at least one path");
    if (!one && !many && it->raw) return true;
    if (!one && !many) return refuse(r, "\"image\": missing");
    it->images = calloc(json_array_size(many) + 1, sizeof *it->images);
    if (!it->images) return no_memory(r);
    if (one) return take_picture(r, it, one, "image");
    for (size_t i = 0; i < json_array_size(many); i++)
        if (!take_picture(r, it, json_array_get(many, i), "images")) return false;
    return true;
}

static bool take_turn(reader *r, const json_t *object, turn *t) {
    const json_t *answers = json_object_get(object, "answers");
    t->question = json_string_value(json_object_get(object, "question"));
    if (!t->question) return refuse(r, "\"question\": must be a text");
    if (!json_array_size(answers)) return refuse(r, "\"answers\": must be an array of at least one text");
    t->answers = calloc(json_array_size(answers), sizeof *t->answers);
    if (!t->answers) return no_memory(r);
    for (; t->n_answers < json_array_size(answers); t->n_answers++) {
        t->answers[t->n_answers] = json_string_value(json_array_get(answers, t->n_answers));
        if (!t->answers[t->n_answers]) return refuse(r, "\"answers\": must be an array of texts");
    }
    return true;
}

static bool take_turns(reader *r, item *it) {
    const json_t *turns = json_object_get(it->json, "turns");
    if (turns && json_object_get(it->json, "question"))
        return refuse(r, "\"question\" and \"turns\": give one of them");
    if (turns && !json_array_size(turns))
        return refuse(r, "\"turns\": must be an array of at least one {\"question\", \"answers\"}");
    size_t n = turns ? json_array_size(turns) : 1;
    it->turns = calloc(n, sizeof *it->turns);
    if (!it->turns) return no_memory(r);
    for (; it->n_turns < n; it->n_turns++)
        if (!take_turn(r, turns ? json_array_get(turns, it->n_turns) : it->json, &it->turns[it->n_turns]))
            return it->n_turns++, false; /* what it holds is released with the others */
    return true;
}

/* The text of an id, which may be a number in the data; without one the number of the line. */
static bool take_id(reader *r, item *it) {
    const json_t *id = json_object_get(it->json, "id");
    char number[32];
    snprintf(number, sizeof number, "%lld", id ? (long long)json_integer_value(id) : it->line);
    if (id && !json_is_string(id) && !json_is_integer(id))
        return refuse(r, "\"id\": must be a text or a whole number");
    it->id = strdup(json_is_string(id) ? json_string_value(id) : number);
    return it->id ? true : no_memory(r);
}

static bool take_max_tokens(reader *r, item *it) {
    const json_t *most = json_object_get(it->json, "max_tokens");
    json_int_t value = json_integer_value(most);
    if (most && (!json_is_integer(most) || value < 1 || value > MOST_TOKENS))
        return refuse(r, "\"max_tokens\": must be a whole number from 1 to %d", MOST_TOKENS);
    it->max_tokens = (int)value;
    return true;
}

/* LONGEST: bytes of an expression; REPEATS: what all {n} of it multiply to, nested or not. */
enum { LONGEST = 512, REPEATS = 256 };

/* The largest number between braces, up to one beyond REPEATS. */
static unsigned repeats_of(const char *at) {
    unsigned most = 1, value = 0;
    for (; *at && *at != '}'; at++) {
        bool digit = *at >= '0' && *at <= '9';
        value = digit && value <= REPEATS ? 10 * value + (unsigned)(*at - '0') : digit ? value : 0;
        if (value > most) most = value;
    }
    return most <= REPEATS ? most : REPEATS + 1;
}

/* What the C library compiles and runs in little time and memory: no references back, few repeats. */
static bool is_tame(const char *form) {
    unsigned product = 1;
    if (strlen(form) > LONGEST) return false;
    for (const char *at = form; *at && product <= REPEATS; at++) {
        if (*at == '{') product *= repeats_of(at + 1);
        if (*at == '\\' && at[1] && *++at >= '0' && *at <= '9') return false;
    }
    return product <= REPEATS;
}

/* A prompt as it stands; what a whole answer looks like, as an extended regular expression. */
static bool take_form(reader *r, item *it) {
    const json_t *raw = json_object_get(it->json, "raw"), *form = json_object_get(it->json, "form");
    if (raw && !json_is_boolean(raw)) return refuse(r, "\"raw\": must be true or false");
    it->raw = json_is_true(raw);
    if (!form) return true;
    if (!json_is_string(form)) return refuse(r, "\"form\": must be a regular expression");
    if (!is_tame(json_string_value(form)))
        return refuse(r,
                      "\"form\": must have at most %d bytes, no references back, and repeats {n} that "
                      "multiply to at most %d",
                      LONGEST, REPEATS);
    it->has_form = regcomp(&it->form, json_string_value(form), REG_EXTENDED | REG_NOSUB) == 0;
    return it->has_form || refuse(r, "\"form\": is no extended regular expression");
}

/* ---- groups -------------------------------------------------------------------------------------------- */

/* "questions" of "/data/questions.jsonl", as UTF-8: it goes into JSON. New memory. */
static char *stem_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    char *stem = strndup(name, dot && dot != name ? (size_t)(dot - name) : strlen(name));
    return stem ? printable_utf8(stem) : NULL;
}

static bool add_group(reader *r, const char *task, metric m) {
    data *d = r->data;
    group *grown = realloc(d->groups, (d->n_groups + 1) * sizeof *grown);
    if (!grown) return no_memory(r);
    d->groups = grown;
    d->groups[d->n_groups] = (group){.metric = m, .task = task ? strdup(task) : stem_of(d->path)};
    group *made = &d->groups[d->n_groups];
    if (!made->task) return no_memory(r);
    for (size_t g = 0; g < d->n_groups; g++)
        if (strcmp(d->groups[g].task, made->task) == 0) d->groups[g].shared_name = made->shared_name = true;
    d->n_groups++;
    return true;
}

static bool take_group(reader *r, item *it) {
    const json_t *task = json_object_get(it->json, "task");
    const char *name = json_string_value(json_object_get(it->json, "metric"));
    metric m = name ? metric_find(name) : METRICS;
    if (!name) return refuse(r, "\"metric\": must be anls, exact, relaxed, cider, contains or likelihood");
    if (m == METRICS)
        return refuse(r, "\"metric\": \"%.40s\" must be anls, exact, relaxed, cider, contains or likelihood",
                      name);
    if (task && (!json_is_string(task) || !*json_string_value(task)))
        return refuse(r, "\"task\": must be a name");
    char *stem = task ? NULL : stem_of(r->data->path);
    const char *wanted = task ? json_string_value(task) : stem;
    it->group = -1;
    for (size_t g = 0; g < r->data->n_groups && wanted; g++)
        if (r->data->groups[g].metric == m && strcmp(r->data->groups[g].task, wanted) == 0)
            it->group = (int)g;
    bool good = wanted || no_memory(r);
    if (good && it->group < 0) {
        it->group = (int)r->data->n_groups;
        good = add_group(r, wanted, m);
    }
    free(stem);
    return good;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static void item_release(item *it) {
    for (size_t i = 0; i < it->n_images; i++) free(it->images[i]);
    for (size_t i = 0; i < it->n_turns; i++) free(it->turns[i].answers);
    if (it->has_form) regfree(&it->form);
    free(it->images);
    free(it->turns);
    free(it->id);
    json_decref(it->json);
}

static bool add_item(reader *r, const item *it) {
    data *d = r->data;
    if ((d->n & (d->n - 1)) == 0) { /* grows at the powers of two */
        item *grown = realloc(d->items, (d->n ? 2 * d->n : 1) * sizeof *grown);
        if (!grown) return no_memory(r);
        d->items = grown;
    }
    d->items[d->n++] = *it;
    d->groups[it->group].n++;
    return true;
}

static bool parse(reader *r, const char *text, size_t length, item *it) {
    json_error_t error;
    it->json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!it->json) return refuse(r, "no JSON: %s (column %d)", error.text, error.column);
    if (!json_is_object(it->json)) return refuse(r, "must be a JSON object");
    return take_id(r, it) && take_form(r, it) && take_turns(r, it) && take_max_tokens(r, it) &&
           take_pictures(r, it) && take_group(r, it);
}

/* A line of the file into an item, or over the limit, or refused. */
static bool take_line(reader *r, const char *text, size_t length, int line, size_t limit) {
    item it = {.line = line};
    r->why[0] = 0;
    r->data->lines++;
    bool good = parse(r, text, length, &it);
    bool over = good && limit && r->data->groups[it.group].n >= limit;
    if (over) r->data->limited++;
    if (good && !over) good = add_item(r, &it);
    if (!good || over) item_release(&it);
    return good;
}

static bool is_blank(const char *text, size_t length) {
    while (length && strchr(" \t\r\n", text[length - 1]) && text[length - 1]) length--;
    return length == 0;
}

/* A line that is wrong: named, and skipped or the end of it all. */
static int tell_bad(reader *r, int line, bool strict, console *c) {
    r->data->bad++;
    if (r->no_memory) return console_fail(c, EXIT_MEMORY, "%s", r->why);
    console_fail(c, 0, "%s:%d: %s%s", r->data->path, line, r->why, strict ? "" : " (skipped)");
    return strict ? EXIT_INPUT : EXIT_OK;
}

static int take_lines(reader *r, const infile *file, size_t limit, bool strict, console *c) {
    static const char mark[] = "\xef\xbb\xbf"; /* of byte order, which says nothing in UTF-8 */
    const char *at = (const char *)file->data, *end = at + file->bytes;
    int code = EXIT_OK;
    if (file->bytes >= 3 && memcmp(at, mark, 3) == 0) at += 3;
    for (int line = 1; at < end && !code; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        if (!is_blank(at, length) && !take_line(r, at, length, line, limit))
            code = tell_bad(r, line, strict, c);
        at += length + (stop != NULL);
    }
    return code;
}

int data_read(const char *path, size_t limit, bool strict, console *c, data *out) {
    reader r = {.data = out};
    infile file;
    *out = (data){.path = path};
    interrupt_ends(true); /* a pipe may keep us waiting */
    int code = infile_read(path, SIZE_MAX / 4, &file);
    interrupt_ends(false);
    if (code) console_fail(c, code, "%s", file.why);
    if (!code) out->hash = hash_of(file.data, file.bytes);
    if (!code) code = take_lines(&r, &file, limit, strict, c);
    infile_release(&file);
    if (!code && !out->n) code = console_fail(c, EXIT_INPUT, "%s: has no question that can be asked", path);
    return code;
}

void data_release(data *d) {
    for (size_t i = 0; i < d->n; i++) item_release(&d->items[i]);
    for (size_t g = 0; g < d->n_groups; g++) free(d->groups[g].task);
    free(d->items);
    free(d->groups);
    *d = (data){0};
}
