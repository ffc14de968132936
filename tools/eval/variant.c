/*
 * variant.c - from "--policy a,b@axis=value" and "--budget x,y" to compression options.
 */
#include "eval/variant.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/flag.h"
#include "common/infile.h"

enum { MOST_POLICIES = 64, MOST_BUDGETS = 64 };

/* What may stand behind the @ of a policy. */
static const struct axis {
    const char *name;
    enum { AXIS_TEXT, AXIS_REAL, AXIS_WHOLE } kind;
    size_t offset;
} axes[] = {
#define AXIS(kind, field)                                                                                    \
    { #field, kind, offsetof(vlcache_compress_options, field) }
    {"allocation", AXIS_TEXT, 0}, {"scoring", AXIS_TEXT, 0},  {"selection", AXIS_TEXT, 0},
    {"pooling", AXIS_TEXT, 0},    {"defer", AXIS_TEXT, 0},    {"summary", AXIS_TEXT, 0},
    {"storage", AXIS_TEXT, 0},    AXIS(AXIS_REAL, threshold), AXIS(AXIS_REAL, recent),
    AXIS(AXIS_WHOLE, sinks),
#undef AXIS
};
enum { AXES = sizeof axes / sizeof *axes };

/* One entry of --policy; its texts lie in variants.text. */
typedef struct spec {
    const char *label;
    vlcache_compress_options options;
    vlcache_recall recall;
    int stream;
} spec;

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

static int take_recall(const char *value, spec *s) {
    bool host = strcmp(value, "host") == 0;
    if (!host && strcmp(value, "none") != 0)
        return flag_refuse("--policy: recall=%s: must be none or host", value);
    s->recall = host ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
    return EXIT_OK;
}

static int take_stream(const char *value, spec *s) {
    double frames = 0.0;
    if (!flag_read_number(value, &frames) || frames != floor(frames) || frames < 0 ||
        frames > VLCACHE_VIDEO_MAX_FRAMES)
        return flag_refuse("--policy: stream=%s: must be a whole number from 0 to %d, of frames", value,
                           VLCACHE_VIDEO_MAX_FRAMES);
    s->stream = (int)frames;
    return EXIT_OK;
}

/* What a stream does not go together with, once all axes are known. */
static int check_stream(const spec *s) {
    char storage[VLCACHE_AXIS_BYTES] = "";
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    if (!s->stream) return EXIT_OK;
    if (s->recall)
        return flag_refuse("--policy %s: stream: not with recall=host, which keeps every row", s->label);
    bool known =
        !vlcache_compress_resolve(&s->options, &all) && !vlcache_compress_get(&all, "storage", storage);
    if (known && *storage && strcmp(storage, "exact") != 0) /* "full" has none */
        return flag_refuse(
            "--policy %s: stream: not with coded rows (storage=%s), whose bits are shared out "
            "over the whole prompt",
            s->label, storage);
    return EXIT_OK;
}

/* A share begins here: no policy and no axis begins so. */
static bool is_number(const char *text) {
    const char *at = text + (*text == '.');
    return *at >= '0' && *at <= '9';
}

/* "layers:FILE": its text begins with what could stand here in its place. */
static int take_file(const char *path, spec *s) {
    infile file;
    int code = infile_read(path, VLCACHE_AXIS_BYTES, &file);
    char text[VLCACHE_AXIS_BYTES + 16];
    if (code) code = flag_refuse("--policy %s: allocation: %s", s->label, file.why);
    if (!code) {
        const char *from = (const char *)file.data;
        from += strncmp(from, "layers:", 7) == 0 ? 7 : 0;
        snprintf(text, sizeof text, "layers:%.*s", (int)strspn(from, "0123456789.,"), from);
        if (vlcache_compress_set(&s->options, "allocation", text))
            code = flag_refuse("--policy %s: %s: %s", s->label, path, vlcache_error_message());
    }
    infile_release(&file);
    return code;
}

static int take_text(const char *axis, const char *value, spec *s) {
    bool file = strcmp(axis, "allocation") == 0 && strncmp(value, "layers:", 7) == 0 && value[7] &&
                !is_number(value + 7);
    if (file) return take_file(value + 7, s);
    return vlcache_compress_set(&s->options, axis, value)
               ? flag_refuse("--policy %s: %s", s->label, vlcache_error_message())
               : EXIT_OK;
}

/* Where this axis of a policy ends: at a comma, if no number follows. */
static char *axis_end(char *text) {
    char *comma = strchr(text, ',');
    while (comma && is_number(comma + 1)) comma = strchr(comma + 1, ',');
    return comma;
}

/* "key=value"; cuts the text at its "=". */
static int take_axis(char *text, spec *s) {
    double number = 0.0;
    char *equals = strchr(text, '=');
    if (!equals || !equals[1]) return flag_refuse("--policy: \"%s\": must be axis=value", text);
    *equals = 0;
    const char *value = equals + 1;
    if (strcmp(text, "label") == 0) {
        s->label = value;
        return EXIT_OK;
    }
    if (strcmp(text, "recall") == 0) return take_recall(value, s);
    if (strcmp(text, "stream") == 0) return take_stream(value, s);
    const struct axis *a = find_axis(text);
    if (!a) return refuse_axis(text);
    void *field = (char *)&s->options + a->offset;
    if (a->kind == AXIS_TEXT) return take_text(text, value, s);
    if (!flag_read_number(value, &number))
        return flag_refuse("--policy: %s=%s: must be a number", text, value);
    if (a->kind == AXIS_REAL) *(double *)field = number;
    if (a->kind == AXIS_WHOLE && (number != floor(number) || fabs(number) > 1e6))
        return flag_refuse("--policy: %s=%s: must be a whole number", text, value);
    if (a->kind == AXIS_WHOLE) *(int *)field = (int)number;
    return EXIT_OK;
}

/* "name@key=value,key=value", a copy of which is `label`. */
static int take_policy(char *text, const char *label, spec *s) {
    int code = EXIT_OK;
    char *at = strchr(text, '@');
    if (at) *at++ = 0;
    *s = (spec){label, VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_RECALL_NONE, 0};
    s->options.policy = text;
    while (at && !code) {
        char *comma = axis_end(at);
        if (comma) *comma++ = 0;
        code = take_axis(at, s);
        at = comma;
    }
    if (code) return code;
    if (vlcache_compress_check(&s->options))
        return flag_refuse("--policy %s: %s", label, vlcache_error_message());
    return check_stream(s);
}

/* ---- the lists ---------------------------------------------------------------------------------------- */

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

static bool is_known(const spec *specs, size_t n, const char *label) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(specs[i].label, label) == 0) return true;
    return false;
}

/* Results are JSON, which holds no other texts: one that is left out would let another run's pass as its own.
 */
static int check_utf8(const char *policies) {
    json_t *text = json_string(policies);
    bool good = text != NULL;
    json_decref(text);
    return good ? EXIT_OK : flag_refuse("--policy \"%s\": must be UTF-8", policies);
}

/* "full" stands first already; given again it is passed over. */
static int take_policies(const char *text, char **pool, spec *specs, size_t *n) {
    specs[0] = (spec){"full", VLCACHE_COMPRESS_OPTIONS_INIT, VLCACHE_RECALL_NONE, 0};
    specs[0].options.policy = "full";
    *n = 1;
    for (bool more = true; more;) {
        size_t length = entry_length(text);
        char *label = keep(pool, text, length), *cut = keep(pool, text, length);
        if (*n == MOST_POLICIES) return flag_refuse("--policy: more than %d policies", MOST_POLICIES - 1);
        if (strcmp(label, "full") != 0) {
            int code = take_policy(cut, label, &specs[*n]);
            if (code) return code;
            if (is_known(specs, *n, specs[*n].label))
                return flag_refuse("--policy: \"%s\" stands there twice", specs[*n].label);
            ++*n;
        }
        more = text[length] != 0;
        text += length + more;
    }
    return EXIT_OK;
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int take_budgets(const char *text, double *budgets, size_t *n) {
    for (bool more = true; more;) {
        char piece[32];
        size_t length = strcspn(text, ",");
        double value = 0.0;
        snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        if (length >= sizeof piece || !flag_read_number(piece, &value) || value <= 0.0 || value > 1.0)
            return flag_refuse("--budget \"%s\": must be a share above 0 and at most 1", piece);
        if (*n == MOST_BUDGETS) return flag_refuse("--budget: more than %d budgets", MOST_BUDGETS);
        budgets[(*n)++] = value;
        more = text[length] != 0;
        text += length + more;
    }
    qsort(budgets, *n, sizeof *budgets, compare_numbers);
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (!i || budgets[i] != budgets[i - 1]) budgets[kept++] = budgets[i];
    *n = kept;
    return EXIT_OK;
}

/* Every name of the library, comma-separated. */
static void all_policies(char *text, size_t room) {
    size_t used = 0;
    for (size_t i = 0; vlcache_policy_name(i) && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? "," : "", vlcache_policy_name(i));
}

static void cross(const spec *specs, size_t n, variants *v) {
    v->n = 0;
    for (size_t p = 0; p < n; p++)
        for (size_t b = 0; b < (p ? v->n_budgets : 1); b++) {
            variant *made = &v->items[v->n++];
            *made = (variant){specs[p].label, (int)p, specs[p].options, specs[p].recall, specs[p].stream};
            made->options.budget = p ? v->budgets[b] : 1.0;
        }
}

static bool reserve(size_t n_policies, variants *v) {
    v->labels = calloc(n_policies, sizeof *v->labels);
    v->items = calloc(1 + n_policies * v->n_budgets, sizeof *v->items);
    return v->labels && v->items;
}

int variants_parse(const char *policies, const char *budgets, variants *out) {
    char every[512];
    spec specs[MOST_POLICIES];
    *out = (variants){0};
    all_policies(every, sizeof every);
    if (!policies) policies = every;
    char *pool = out->text = malloc(4 * strlen(policies) + 4 * MOST_POLICIES);
    out->budgets = calloc(MOST_BUDGETS, sizeof *out->budgets);
    if (!pool || !out->budgets) goto no_memory;
    int code = check_utf8(policies);
    if (!code) code = take_policies(policies, &pool, specs, &out->n_policies);
    if (!code) code = take_budgets(budgets, out->budgets, &out->n_budgets);
    if (code) return code;
    if (!reserve(out->n_policies, out)) goto no_memory;
    for (size_t p = 0; p < out->n_policies; p++) out->labels[p] = specs[p].label;
    cross(specs, out->n_policies, out);
    return EXIT_OK;
no_memory:
    fprintf(stderr, "%s: out of host memory\n", program_invocation_short_name);
    return EXIT_MEMORY;
}

size_t variants_at(const variants *v, size_t policy, size_t budget) {
    return policy ? 1 + (policy - 1) * v->n_budgets + budget : 0;
}

size_t variants_compared(const variants *v) {
    return 1 + (v->n_policies - 1) * v->n_budgets;
}

void variants_release(variants *v) {
    free(v->items);
    free(v->labels);
    free(v->budgets);
    free(v->text);
    *v = (variants){0};
}

json_t *variant_json(const variant *v) {
    char text[VLCACHE_AXIS_BYTES] = "";
    vlcache_compress_options all = VLCACHE_COMPRESS_OPTIONS_INIT;
    json_t *object = json_pack("{s:s, s:s, s:f}", "label", v->label, "policy", v->options.policy, "budget",
                               v->options.budget);
    if (object && v->recall) json_object_set_new(object, "recall", json_string("host"));
    if (object && v->stream) json_object_set_new(object, "stream", json_integer(v->stream));
    if (!object || vlcache_compress_resolve(&v->options, &all)) return object;
    for (size_t i = 0; i < AXES && strcmp(all.policy, "full") != 0; i++) {
        const void *field = (const char *)&all + axes[i].offset;
        if (axes[i].kind == AXIS_TEXT && vlcache_compress_get(&all, axes[i].name, text)) return object;
        if (axes[i].kind == AXIS_TEXT && strcmp(text, "exact") == 0) continue; /* as files had it before */
        json_t *value = axes[i].kind == AXIS_REAL    ? json_real(*(const double *)field)
                        : axes[i].kind == AXIS_WHOLE ? json_integer(*(const int *)field)
                                                     : json_string(text);
        if (value) json_object_set_new(object, axes[i].name, value);
    }
    return object;
}
