/*
 * policy.c - "a,b@axis=value" -> compression options.
 */
#include "common/policy.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/flag.h"
#include "common/infile.h"

/* What may stand behind the @ of a policy. */
static const struct axis {
    const char *name;
    enum { AXIS_TEXT, AXIS_REAL, AXIS_WHOLE } kind;
    size_t offset;
} axes[] = {
#define AXIS(kind, field)                                                                                    \
    { #field, kind, offsetof(vlcache_compress_options, field) }
    {"allocation", AXIS_TEXT, 0}, {"scoring", AXIS_TEXT, 0},    {"selection", AXIS_TEXT, 0},
    {"pooling", AXIS_TEXT, 0},    {"defer", AXIS_TEXT, 0},      {"summary", AXIS_TEXT, 0},
    {"storage", AXIS_TEXT, 0},    {"candidates", AXIS_TEXT, 0}, AXIS(AXIS_REAL, threshold),
    AXIS(AXIS_REAL, recent),      AXIS(AXIS_WHOLE, sinks),
#undef AXIS
};
enum { AXES = sizeof axes / sizeof *axes };

/* ---- one policy --------------------------------------------------------------------------------------- */

static const struct axis *find_axis(const char *name) {
    for (size_t i = 0; i < AXES; i++)
        if (strcmp(axes[i].name, name) == 0) return &axes[i];
    return NULL;
}

static int refuse_axis(const char *name) {
    char names[256] = "label";
    for (size_t i = 0; i < AXES; i++) {
        strcat(names, ", ");
        strcat(names, axes[i].name);
    }
    strcat(names, ", recall and stream");
    return flag_refuse("--policy: \"%s\": no such axis; there are %s", name, names);
}

static int take_recall(const char *value, policy_spec *p) {
    bool host = strcmp(value, "host") == 0;
    if (!host && strcmp(value, "none") != 0)
        return flag_refuse("--policy: recall=%s: must be none or host", value);
    p->recall = host ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
    return EXIT_OK;
}

static int take_stream(const char *value, policy_spec *p) {
    double frames = 0.0;
    if (!flag_read_number(value, &frames) || frames != floor(frames) || frames < 0 ||
        frames > VLCACHE_VIDEO_MAX_FRAMES)
        return flag_refuse("--policy: stream=%s: must be a whole number from 0 to %d, of frames", value,
                           VLCACHE_VIDEO_MAX_FRAMES);
    p->stream = (int)frames;
    return EXIT_OK;
}

/* What a stream does not go together with, once all axes are known. */
static int check_stream(const policy_spec *p) {
    char storage[VLCACHE_AXIS_BYTES] = "";
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    if (!p->stream) return EXIT_OK;
    if (p->recall)
        return flag_refuse("--policy %s: stream: not with recall=host, which keeps every row", p->label);
    bool known =
        !vlcache_compress_resolve(&p->options, &all) && !vlcache_compress_get(&all, "storage", storage);
    if (known && *storage && strcmp(storage, "exact") != 0) /* "full" has none */
        return flag_refuse(
            "--policy %s: stream: not with coded rows (storage=%s), whose bits are shared out "
            "over the whole prompt: take policy centroids, or storage=exact",
            p->label, storage);
    return EXIT_OK;
}

/* A share begins here: no policy and no axis begins so. */
static bool is_number(const char *text) {
    const char *at = text + (*text == '.');
    return *at >= '0' && *at <= '9';
}

static const char *const shared_out[] = {"layers:", "heads:"};

static bool begins_with(const char *text, const char *word) {
    return strncmp(text, word, strlen(word)) == 0;
}

/* The next line that begins with one of the words, NULL past the last. */
static const char *next_line(const char *text) {
    while ((text = strchr(text, '\n')))
        if (begins_with(++text, shared_out[0]) || begins_with(text, shared_out[1])) return text;
    return NULL;
}

/* What stands behind the word that a line of a file begins with, without blanks at its end; all of the file,
 * if none does. */
static const char *find_shares(const char *text, const char *word, size_t *length) {
    const char *from = text;
    while (from && !begins_with(from, word)) from = next_line(from);
    const char *end = from ? next_line(from) : NULL;
    from = from ? from + strlen(word) : text;
    *length = end ? (size_t)(end - from) : strlen(from);
    while (*length && strchr(" \t\r\n", from[*length - 1])) --*length;
    return from;
}

/* "layers:FILE", "heads:FILE": its text has what could stand here in its place. */
static int take_file(const char *word, const char *path, policy_spec *p) {
    infile file;
    int code = infile_read(path, 2 * VLCACHE_AXIS_BYTES, &file);
    char text[2 * VLCACHE_AXIS_BYTES + 16];
    if (code) code = flag_refuse("--policy %s: allocation: %s", p->label, file.why);
    if (!code) {
        size_t n = 0;
        const char *from = find_shares((const char *)file.data, word, &n);
        snprintf(text, sizeof text, "%s%.*s", word, (int)n, from);
        if (strlen((const char *)file.data) != file.bytes)
            code = flag_refuse("--policy %s: %s: is no text", p->label, path);
        else if (vlcache_compress_set(&p->options, "allocation", text))
            code = flag_refuse("--policy %s: %s: %s", p->label, path, vlcache_error_message());
    }
    infile_release(&file);
    return code;
}

static int take_text(const char *axis, const char *value, policy_spec *p) {
    for (size_t i = 0; i < 2 && strcmp(axis, "allocation") == 0; i++) {
        size_t n = strlen(shared_out[i]);
        bool file = begins_with(value, shared_out[i]) && value[n] && !is_number(value + n);
        if (file) return take_file(shared_out[i], value + n, p);
    }
    return vlcache_compress_set(&p->options, axis, value)
               ? flag_refuse("--policy %s: %s", p->label, vlcache_error_message())
               : EXIT_OK;
}

/* Where this axis of a policy ends: at a comma, if no number follows. */
static char *axis_end(char *text) {
    char *comma = strchr(text, ',');
    while (comma && is_number(comma + 1)) comma = strchr(comma + 1, ',');
    return comma;
}

/* "key=value"; cuts the text at its "=". */
static int take_axis(char *text, policy_spec *p) {
    double number = 0.0;
    char *equals = strchr(text, '=');
    if (!equals || !equals[1]) return flag_refuse("--policy: \"%s\": must be axis=value", text);
    *equals = 0;
    const char *value = equals + 1;
    if (strcmp(text, "label") == 0) {
        p->label = value;
        return EXIT_OK;
    }
    if (strcmp(text, "recall") == 0) return take_recall(value, p);
    if (strcmp(text, "stream") == 0) return take_stream(value, p);
    const struct axis *a = find_axis(text);
    if (!a) return refuse_axis(text);
    void *field = (char *)&p->options + a->offset;
    if (a->kind == AXIS_TEXT) return take_text(text, value, p);
    if (!flag_read_number(value, &number))
        return flag_refuse("--policy: %s=%s: must be a number", text, value);
    if (a->kind == AXIS_REAL) *(double *)field = number;
    if (a->kind == AXIS_WHOLE && (number != floor(number) || fabs(number) > INT_MAX))
        return flag_refuse("--policy: %s=%s: must be a whole number", text, value);
    if (a->kind == AXIS_WHOLE) *(int *)field = (int)number;
    return EXIT_OK;
}

int policy_read(char *text, const char *spelled, policy_spec *p) {
    int code = EXIT_OK;
    char *at = strchr(text, '@');
    if (at) *at++ = 0;
    p->label = spelled;
    p->options.policy = text;
    while (at && !code) {
        char *comma = axis_end(at);
        if (comma) *comma++ = 0;
        code = take_axis(at, p);
        at = comma;
    }
    return code;
}

int policy_check(const policy_spec *p) {
    if (vlcache_compress_check(&p->options))
        return flag_refuse("--policy %s: %s", p->label, vlcache_error_message());
    return check_stream(p);
}

const char *policy_comes_to(const vlcache_compress_options *o, const char *label, const vlcache_model *model,
                            console *c) {
    const char *policy = vlcache_policy_of(model, o);
    if (policy && strcmp(policy, o->policy) != 0 && !c->quiet)
        console_say(c, "%s: --policy %s is %s here: %s\n", program_invocation_short_name, label, policy,
                    vlcache_error_message());
    return policy;
}

bool policy_tell(const vlcache_compress_options *options, json_t *object) {
    char text[VLCACHE_AXIS_BYTES] = "";
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    if (vlcache_compress_resolve(options, &all)) return false;
    for (size_t i = 0; i < AXES && strcmp(all.policy, "full") != 0; i++) {
        const void *field = (const char *)&all + axes[i].offset;
        if (axes[i].kind == AXIS_TEXT && vlcache_compress_get(&all, axes[i].name, text)) return false;
        bool usual = axes[i].kind == AXIS_TEXT && (strcmp(text, "exact") == 0 || strcmp(text, "all") == 0);
        if (usual) continue; /* as files had it before there was such an axis */
        json_t *value = axes[i].kind == AXIS_REAL    ? json_real(*(const double *)field)
                        : axes[i].kind == AXIS_WHOLE ? json_integer(*(const int *)field)
                                                     : json_string(text);
        if (value) json_object_set_new(object, axes[i].name, value);
    }
    return true;
}

json_t *policy_storage(const vlcache_compress_options *options, const vlcache_compress_stats *turn) {
    char text[VLCACHE_AXIS_BYTES] = "";
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    if (!turn->run || vlcache_compress_resolve(options, &all)) return NULL;
    all.run = turn->run;
    return vlcache_compress_get(&all, "storage", text) ? NULL : json_string(text);
}

/* ---- a list ------------------------------------------------------------------------------------------- */

/* Length of the entry that begins at `text`: a comma ends it, except before "key=value" and before a number,
 * which belong to the policy before. */
static size_t entry_length(const char *text) {
    size_t end = strcspn(text, ",");
    while (text[end]) {
        size_t piece = strcspn(text + end + 1, ",@=");
        if (text[end + 1 + piece] != '=' && !is_number(text + end + 1)) break;
        end += 1 + strcspn(text + end + 1, ",");
    }
    return end;
}

/* Appends a copy of n bytes to the pool of texts; its address. */
static char *keep(char **pool, const char *text, size_t n) {
    char *copy = memcpy(*pool, text, n);
    copy[n] = 0;
    *pool += n + 1;
    return copy;
}

static size_t count_entries(const char *list) {
    size_t n = 1;
    for (const char *at = list + entry_length(list); *at; n++) at += 1 + entry_length(at + 1);
    return n;
}

/* Tables and results are JSON, which holds no other texts: a label that is left out of results would let
 * another run's pass as its own. */
static int check_utf8(const char *list) {
    json_t *text = json_string(list);
    bool good = text != NULL;
    json_decref(text);
    return good ? EXIT_OK : flag_refuse("--policy \"%s\": must be UTF-8", list);
}

int policies_read(const char *list, policy_list *out) {
    size_t n = count_entries(list);
    *out = (policy_list){.items = calloc(n, sizeof *out->items), .text = malloc(2 * (strlen(list) + n))};
    char *pool = out->text;
    int code = out->items && out->text ? EXIT_OK : EXIT_MEMORY;
    if (code) fprintf(stderr, "%s: out of host memory\n", program_invocation_short_name);
    if (!code) code = check_utf8(list);
    for (; out->n < n && !code; out->n += !code) {
        policy_spec *p = &out->items[out->n];
        size_t length = entry_length(list);
        char *spelled = keep(&pool, list, length);
        *p = (policy_spec)POLICY_INIT;
        code = policy_read(keep(&pool, list, length), spelled, p);
        if (!code) code = policy_check(p);
        list += length + (list[length] != 0);
    }
    return code;
}

void policies_release(policy_list *p) {
    free(p->items);
    free(p->text);
    *p = (policy_list){0};
}
