/*
 * chat.c - one row of a table for each chat template, and which row a checkpoint means.
 */
#include "tokens/chat.h"

#include <string.h>

#include "checkpoint/json.h"
#include "core/alloc.h"
#include "core/log.h"

struct vlci_chat_template {
    const char *name;
    const char *bos;    /* opens the first turn */
    const char *before; /* in front of what the user shows and says */
    const char *after;  /* behind it; the answer follows */
    const char *close;  /* ends the answer */
    const char *gap;    /* between a closed answer and the next turn */
    const char *mark[4];
};

/* The forms that Hugging Face conversions have. Most telling marks first. */
static const vlci_chat_template templates[] = {
    {"llama3",
     "<|begin_of_text|>",
     "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
     "<|eot_id|>",
     "",
     {"<|start_header_id|>"}},
    {"chatml",
     "",
     "<|im_start|>user\n",
     "<|im_end|><|im_start|>assistant\n",
     "<|im_end|>",
     "",
     {"<|im_start|>"}},
    {"mistral", "<s>", "[INST] ", " [/INST]", "</s>", "", {"[INST]"}},
    {"vicuna", "<s>", "USER: ", " ASSISTANT:", "</s>", "", {"USER:", "ASSISTANT:", ".upper()"}},
    {"plain", "", "", "", "", "\n", {NULL}},
};
enum { N_TEMPLATES = sizeof templates / sizeof *templates, FILE_LIMIT = 64 << 20 };

const vlci_chat_template *vlci_chat_find(const char *name) {
    for (int i = 0; i < N_TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
    return NULL;
}

const char *vlci_chat_name(const vlci_chat_template *chat) {
    return chat->name;
}

const char *vlci_chat_names(void) {
    return "vicuna, mistral, chatml, llama3, plain";
}

const char *vlci_chat_end(const vlci_chat_template *chat) {
    return chat->close;
}

const char *vlci_chat_bos(const vlci_chat_template *chat) {
    return chat->bos;
}

static const vlci_chat_template *recognise(const char *text) {
    for (int i = 0; i < N_TEMPLATES; i++)
        for (int k = 0; k < 4 && templates[i].mark[k]; k++)
            if (strstr(text, templates[i].mark[k])) return &templates[i];
    return NULL;
}

/* "chat_template": a text, or a list of {"name", "template"}; the first that is recognised counts. A file
 * that is no JSON is not the one that says: it is named in the log. */
static vlcache_status recognise_json(const char *text, size_t bytes, const char *path,
                                     const vlci_chat_template **found) {
    json_t *root = NULL;
    vlcache_status status = vlci_json_parse(path, text, bytes, &root);
    if (status == VLCACHE_E_FORMAT) {
        vlci_log(VLCACHE_LOG_WARN, "%s: not read for its chat template", vlcache_error_message());
        return VLCACHE_OK;
    }
    if (status) return status;
    const json_t *value = json_object_get(root, "chat_template");
    if (json_is_string(value)) *found = recognise(json_string_value(value));
    for (size_t i = 0; i < json_array_size(value) && !*found; i++) {
        const char *one = json_string_value(json_object_get(json_array_get(value, i), "template"));
        if (one) *found = recognise(one);
    }
    json_decref(root);
    return VLCACHE_OK;
}

static vlcache_status recognise_file(const char *folder, const char *name, const vlci_chat_template **found) {
    char *path = NULL, *text = NULL;
    size_t bytes = 0;
    vlcache_status status = vlci_path_join(folder, name, &path);
    if (status || !vlci_path_exists(path)) goto done;
    status = vlci_file_read(path, FILE_LIMIT, &text, &bytes);
    if (status) goto done;
    if (strstr(name, ".jinja"))
        *found = recognise(text);
    else
        status = recognise_json(text, bytes, path, found);
done:
    vlci_free(path);
    vlci_free(text);
    return status;
}

vlcache_status vlci_chat_detect(const char *folder, const char *text_type, const vlci_chat_template **out) {
    static const char *const files[] = {"chat_template.jinja", "chat_template.json", "tokenizer_config.json",
                                        "processor_config.json"};
    vlcache_status status = VLCACHE_OK;
    *out = NULL;
    for (int i = 0; i < 4 && !status && !*out; i++) status = recognise_file(folder, files[i], out);
    if (status || *out) return status;
    bool mistral = text_type && strcmp(text_type, "mistral") == 0;
    *out = vlci_chat_find(mistral ? "mistral" : "vicuna");
    return VLCACHE_OK;
}

/* ---- turns --------------------------------------------------------------------------------------------- */

static vlcache_status add_part(vlci_chat_parts *parts, vlci_chat_kind kind, const char *text, size_t bytes) {
    if (!bytes) return VLCACHE_OK;
    if (parts->n == parts->room) {
        vlci_chat_part *grown = vlci_realloc(parts->at, 2 * parts->room + 8, sizeof *grown);
        if (!grown) return vlci_fail_memory("prompt");
        parts->at = grown;
        parts->room = 2 * parts->room + 8;
    }
    parts->at[parts->n++] = (vlci_chat_part){kind, text, bytes};
    return VLCACHE_OK;
}

static vlcache_status add_template(vlci_chat_parts *parts, const char *text) {
    return add_part(parts, VLCI_CHAT_TEMPLATE, text, strlen(text));
}

/* The next mark in the words from `at` on, and whether a backslash in front says that it is words too. */
static const char *next_mark(const char *words, const char *at, const char *mark, bool *escaped) {
    const char *found = strstr(at, mark);
    *escaped = found && found > words && found[-1] == '\\';
    return found;
}

static int count_marks(const char *words, const char *mark) {
    bool escaped;
    int n = 0;
    for (const char *at = words; (at = next_mark(words, at, mark, &escaped)); at += strlen(mark))
        n += !escaped;
    return n;
}

/* The user's words; with `places` each mark in them is a picture. */
static vlcache_status add_words(vlci_chat_parts *parts, const char *words, const char *mark, bool places) {
    vlcache_status status = VLCACHE_OK;
    bool escaped;
    size_t length = strlen(mark);
    const char *done = words, *at = words;
    for (; !status && (at = next_mark(words, at, mark, &escaped)); at += length) {
        if (!escaped && !places) continue;
        status = add_part(parts, VLCI_CHAT_USER, done, (size_t)(at - done) - escaped);
        if (!status && !escaped) status = add_part(parts, VLCI_CHAT_PICTURE, mark, length);
        done = escaped ? at : at + length;
    }
    return status ? status : add_part(parts, VLCI_CHAT_USER, done, strlen(done));
}

static vlcache_status add_pictures(vlci_chat_parts *parts, int n, const char *mark) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) {
        status = add_part(parts, VLCI_CHAT_PICTURE, mark, strlen(mark));
        if (!status) status = add_template(parts, "\n");
    }
    return status;
}

vlcache_status vlci_chat_parts_make(const vlci_chat_template *chat, bool first, int n_images,
                                    const char *user, const char *mark, vlci_chat_parts *out) {
    bool places = n_images > 0 && count_marks(user, mark) == n_images;
    *out = (vlci_chat_parts){0};
    vlcache_status status = add_template(out, first ? chat->bos : chat->close);
    if (!status && !first) status = add_template(out, chat->gap);
    if (!status) status = add_template(out, chat->before);
    if (!status && !places) status = add_pictures(out, n_images, mark);
    if (!status) status = add_words(out, user, mark, places);
    if (!status) status = add_template(out, chat->after);
    if (status) vlci_chat_parts_release(out);
    return status;
}

void vlci_chat_parts_release(vlci_chat_parts *parts) {
    vlci_free(parts->at);
    *parts = (vlci_chat_parts){0};
}
