/*
 * template.c - a template parsed and rendered: the one way into the interpreter, and the one out of it.
 */
#include "tokens/template.h"

#include <string.h>

#include "core/alloc.h"
#include "tokens/strings.h"
#include "tokens/template_parse.h"
#include "tokens/template_run.h"

struct vlci_template {
    vlci_arena arena; /* holds the tree */
    const vlci_node *first;
    char *file;
};

/* ---- parsing ------------------------------------------------------------------------------------------- */

/* All that can leave happens in here. */
static vlcache_status parse(vlci_run *run, const char *text, size_t bytes, const vlci_node **first) {
    if (setjmp(run->arena.out)) return run->arena.status;
    *first = vlci_template_parse(run, text, bytes);
    return VLCACHE_OK;
}

vlcache_status vlci_template_create(const char *file, const char *text, size_t bytes, vlci_template **out) {
    *out = NULL;
    vlci_template *made = vlci_calloc(1, sizeof *made);
    vlci_run *run = vlci_calloc(1, sizeof *run);
    vlcache_status status = made && run ? VLCACHE_OK : vlci_fail_memory("chat template");
    if (!status) {
        made->file = vlci_strdup(file);
        status = made->file ? VLCACHE_OK : vlci_fail_memory("chat template");
    }
    if (!status) {
        *run = (vlci_run){.arena = {.limit = VLCI_MOST_MEMORY, .what = made->file}, .file = made->file};
        status = parse(run, text, bytes, &made->first);
        made->arena = run->arena;
    }
    vlci_free(run);
    if (status)
        vlci_template_destroy(&made);
    else
        *out = made;
    return status;
}

void vlci_template_destroy(vlci_template **tpl) {
    if (!*tpl) return;
    vlci_arena_release(&(*tpl)->arena);
    vlci_free((*tpl)->file);
    vlci_free(*tpl);
    *tpl = NULL;
}

/* ---- what it is rendered with -------------------------------------------------------------------------- */

/* Bytes as valid UTF-8, all of one origin. */
static const vlci_words *words(vlci_run *run, const char *text, size_t bytes, vlci_origin origin) {
    vlci_writing to = {0};
    size_t good = 0;
    for (size_t i = 0; i < bytes;) {
        int n = vlci_utf8_step(text + i, bytes - i);
        if (n <= 0) {
            vlci_put(run, &to, text + good, i - good, origin);
            vlci_put_char(run, &to, 0xfffd, origin);
        }
        i += n > 0 ? (size_t)n : n < 0 ? (size_t)-n : bytes - i;
        if (n <= 0) good = i;
    }
    vlci_put(run, &to, text + good, bytes - good, origin);
    return vlci_written(run, &to);
}

static vlci_datum from_json(vlci_run *run, const json_t *value);

static vlci_datum list_from_json(vlci_run *run, const json_t *value) {
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < json_array_size(value); i++)
        vlci_list_add(run, list, from_json(run, json_array_get(value, i)));
    return vlci_list_datum(list);
}

static vlci_datum dict_from_json(vlci_run *run, const json_t *value) {
    vlci_dict *dict = vlci_dict_new(run);
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)value, key, item)
        vlci_dict_set(run, dict, vlci_text_datum(words(run, key, strlen(key), VLCI_ORIGIN_TEMPLATE)),
                      from_json(run, item));
    return (vlci_datum){.kind = VLCI_DICT, .dict = dict};
}

static vlci_datum from_json(vlci_run *run, const json_t *value) {
    vlci_datum made = vlci_none();
    vlci_run_down(run);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        made = dict_from_json(run, value);
        break;
    case JSON_ARRAY:
        made = list_from_json(run, value);
        break;
    case JSON_STRING:
        made = vlci_text_datum(
            words(run, json_string_value(value), json_string_length(value), VLCI_ORIGIN_TEMPLATE));
        break;
    case JSON_INTEGER:
        made = vlci_int(json_integer_value(value));
        break;
    case JSON_REAL:
        made = vlci_float(json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        made = vlci_bool(json_is_true(value));
        break;
    case JSON_NULL:
        break;
    }
    vlci_run_up(run);
    return made;
}

static void set(vlci_run *run, vlci_dict *dict, const char *key, vlci_datum value) {
    vlci_dict_set(run, dict, vlci_text_of(run, key), value);
}

static bool is_text(const vlci_piece *piece) {
    return piece->kind == VLCI_PIECE_TEXT || piece->kind == VLCI_PIECE_MARK;
}

/* Texts and marks from piece `*at` on, joined. */
static vlci_datum text_of(vlci_run *run, const vlci_message *message, size_t *at) {
    vlci_writing text = {0};
    for (; *at < message->n_pieces && is_text(&message->pieces[*at]); ++*at) {
        const vlci_piece *piece = &message->pieces[*at];
        vlci_origin origin = piece->kind == VLCI_PIECE_MARK ? VLCI_ORIGIN_TEMPLATE
                             : piece->answer                ? VLCI_ORIGIN_ANSWER
                                                            : VLCI_ORIGIN_WORDS;
        vlci_put_words(run, &text, words(run, piece->text, piece->bytes, origin));
    }
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum item_of(vlci_run *run, const vlci_message *message, size_t *at) {
    vlci_dict *dict = vlci_dict_new(run);
    const vlci_piece *piece = &message->pieces[*at];
    const char *type = is_text(piece) ? "text" : piece->kind == VLCI_PIECE_VIDEO ? "video" : "image";
    set(run, dict, "type", vlci_text_of(run, type));
    if (is_text(piece))
        set(run, dict, "text", text_of(run, message, at));
    else
        ++*at;
    return (vlci_datum){.kind = VLCI_DICT, .dict = dict};
}

static vlci_datum content(vlci_run *run, const vlci_message *message) {
    size_t at = 0;
    if (!message->items) return text_of(run, message, &at);
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    while (at < message->n_pieces) vlci_list_add(run, list, item_of(run, message, &at));
    return vlci_list_datum(list);
}

static vlci_datum messages(vlci_run *run, const vlci_rendering *with) {
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < with->n_messages; i++) {
        vlci_dict *dict = vlci_dict_new(run);
        set(run, dict, "role", vlci_text_of(run, with->messages[i].role));
        set(run, dict, "content", content(run, &with->messages[i]));
        vlci_list_add(run, list, (vlci_datum){.kind = VLCI_DICT, .dict = dict});
    }
    return vlci_list_datum(list);
}

/* As transformers hands them over: tools and documents are there, and none. */
static vlci_names *variables(vlci_run *run, const vlci_rendering *with) {
    vlci_names *names = VLCI_ARENA_NEW(&run->arena, vlci_names);
    const char *key;
    json_t *item;
    vlci_functions_set(run, names);
    vlci_names_set(run, names, "tools", 5, vlci_none());
    vlci_names_set(run, names, "documents", 9, vlci_none());
    vlci_names_set(run, names, "add_generation_prompt", 21, vlci_bool(with->prompt));
    if (with->variables) json_object_foreach((json_t *)with->variables, key, item) {
            const vlci_words *name = words(run, key, strlen(key), VLCI_ORIGIN_TEMPLATE);
            vlci_names_set(run, names, name->data, name->n, from_json(run, item));
        }
    if (with->messages) vlci_names_set(run, names, "messages", 8, messages(run, with));
    return names;
}

/* ---- rendering ----------------------------------------------------------------------------------------- */

/* All that can leave happens in here. */
static vlcache_status render(vlci_run *run, const vlci_template *tpl, const vlci_rendering *with,
                             const vlci_words **text) {
    vlci_writing out = {0};
    if (setjmp(run->arena.out)) return run->arena.status;
    vlci_run_statements(run, tpl->first, variables(run, with), &out);
    *text = vlci_written(run, &out);
    return VLCACHE_OK;
}

static vlcache_status copy(const vlci_words *text, vlci_rendered *out) {
    out->text = vlci_alloc(text->n + 1, 1);
    out->whose = vlci_calloc(text->n + 1, 1);
    out->bytes = text->n;
    if (!out->text || !out->whose) return vlci_fail_memory("prompt");
    memcpy(out->text, text->data, text->n);
    out->text[text->n] = 0;
    if (text->origin) memcpy(out->whose, text->origin, text->n);
    return VLCACHE_OK;
}

vlcache_status vlci_template_render(const vlci_template *tpl, const vlci_rendering *with,
                                    vlci_rendered *out) {
    const vlci_words *text = NULL;
    *out = (vlci_rendered){0};
    vlci_run *run = vlci_calloc(1, sizeof *run);
    if (!run) return vlci_fail_memory("chat template");
    *run = (vlci_run){.arena = {.limit = VLCI_MOST_MEMORY, .what = tpl->file},
                      .file = tpl->file,
                      .line = 1,
                      .column = 1,
                      .now = with->now};
    vlcache_status status = render(run, tpl, with, &text);
    if (!status) status = copy(text, out);
    vlci_arena_release(&run->arena);
    vlci_free(run);
    if (status) vlci_rendered_release(out);
    return status;
}

/* The next mark from byte `at` on that the template wrote; the end where there is none. */
static size_t next_mark(const vlci_rendered *r, const char *mark, size_t at) {
    size_t length = strlen(mark);
    for (; at + length <= r->bytes; at++) {
        bool written = memcmp(r->text + at, mark, length) == 0;
        for (size_t i = 0; i < length && written; i++) written = r->whose[at + i] == VLCI_BYTE_TEMPLATE;
        if (written) return at;
    }
    return r->bytes;
}

static size_t count_marks(const vlci_rendered *r, const char *mark) {
    size_t n = 0;
    for (size_t at = 0; (at = next_mark(r, mark, at)) < r->bytes; at += strlen(mark)) n++;
    return n;
}

static void put(vlci_rendered *to, const char *text, const unsigned char *whose, size_t n) {
    memcpy(to->text + to->bytes, text, n);
    if (whose) memcpy(to->whose + to->bytes, whose, n);
    to->bytes += n;
}

vlcache_status vlci_rendered_replace(vlci_rendered *r, const char *mark, char *const *by, size_t n,
                                     size_t *found) {
    size_t marks = count_marks(r, mark), keep = marks > n ? marks - n : 0, room = r->bytes, at = 0;
    if (found) *found = marks;
    for (size_t i = 0; i < n; i++) room += strlen(by[i]);
    vlci_rendered made = {vlci_alloc(room + 1, 1), vlci_calloc(room + 1, 1), 0};
    if (!made.text || !made.whose) {
        vlci_rendered_release(&made);
        return vlci_fail_memory("prompt");
    }
    for (size_t i = 0; i < marks; i++) {
        size_t next = next_mark(r, mark, at), behind = next + strlen(mark);
        const char *text = i < keep ? mark : by[n - marks + i];
        put(&made, r->text + at, r->whose + at, next - at);
        put(&made, text, NULL, strlen(text));
        at = behind;
    }
    put(&made, r->text + at, r->whose + at, r->bytes - at);
    made.text[made.bytes] = 0;
    vlci_rendered_release(r);
    *r = made;
    return VLCACHE_OK;
}

void vlci_rendered_release(vlci_rendered *rendered) {
    vlci_free(rendered->text);
    vlci_free(rendered->whose);
    *rendered = (vlci_rendered){0};
}
