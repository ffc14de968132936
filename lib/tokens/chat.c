/*
 * chat.c - where a template comes from: a checkpoint's folder, a name, a file, a text; and what it takes.
 *
 *     folder -> text of the template, tokens (bos_token, ...) -> parsed -> tried out: form, end
 */
#include "tokens/chat.h"

#include <string.h>

#include "checkpoint/json.h"
#include "core/alloc.h"
#include "core/log.h"

enum { FILE_LIMIT = 64 << 20 };

/* ---- files --------------------------------------------------------------------------------------------- */

/* A JSON file of the folder; `*root` NULL: there is none, or it is no JSON, which the log tells. */
static vlcache_status load_json(const char *folder, const char *name, json_t **root) {
    char *path = NULL;
    *root = NULL;
    vlcache_status status = vlci_path_join(folder, name, &path);
    if (!status && vlci_path_exists(path)) status = vlci_json_load(path, FILE_LIMIT, root);
    if (status == VLCACHE_E_FORMAT) {
        vlci_log(VLCACHE_LOG_WARN, "%s: not read for its chat template", vlcache_error_message());
        status = VLCACHE_OK;
    }
    vlci_free(path);
    return status;
}

/* "chat_template": a text, a list of {"name", "template"}, or an object of templates by name. NULL: none. */
static const char *template_in(const json_t *value) {
    const char *first = NULL, *key;
    json_t *item;
    if (json_is_string(value)) return json_string_value(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *one = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        const char *text = json_string_value(json_object_get(one, "template"));
        if (text && name && strcmp(name, "default") == 0) return text;
        if (!first) first = text;
    }
    if (json_is_string(json_object_get(value, "default")))
        return json_string_value(json_object_get(value, "default"));
    if (json_is_object(value))
        json_object_foreach((json_t *)value, key, item) if (!first) first = json_string_value(item);
    return first;
}

/* The text of one of the files, in new memory; `*text` NULL: it has none. */
static vlcache_status text_of_file(const char *folder, const char *name, char **text) {
    char *path = NULL;
    json_t *root = NULL;
    size_t bytes;
    *text = NULL;
    vlcache_status status = vlci_path_join(folder, name, &path);
    if (status || !vlci_path_exists(path)) goto done;
    if (strstr(name, ".jinja")) {
        status = vlci_file_read(path, FILE_LIMIT, text, &bytes);
        goto done;
    }
    status = load_json(folder, name, &root);
    const char *found = status ? NULL : template_in(json_object_get(root, "chat_template"));
    if (found) {
        *text = vlci_strdup(found);
        if (!*text) status = vlci_fail_memory("chat template");
    }
done:
    json_decref(root);
    vlci_free(path);
    return status;
}

/* The texts of an object's tokens ("...token": a text, or {"content": text}) that are not known yet. */
static vlcache_status take_tokens(json_t *into, const json_t *from) {
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)from, key, item) {
        size_t n = strlen(key);
        const json_t *content = json_is_object(item) ? json_object_get(item, "content") : item;
        bool token = n > 6 && strcmp(key + n - 6, "_token") == 0 && json_is_string(content);
        if (!token || json_object_get(into, key)) continue;
        if (json_object_set(into, key, (json_t *)content)) return vlci_fail_memory("chat template");
    }
    return VLCACHE_OK;
}

static vlcache_status load_tokens(const char *folder, json_t **out) {
    static const char *const files[] = {"tokenizer_config.json", "special_tokens_map.json"};
    *out = json_object();
    vlcache_status status = *out ? VLCACHE_OK : vlci_fail_memory("chat template");
    for (int i = 0; i < 2 && !status; i++) {
        json_t *root;
        status = load_json(folder, files[i], &root);
        if (!status && root) status = take_tokens(*out, root);
        json_decref(root);
    }
    return status;
}

/* ---- making one ---------------------------------------------------------------------------------------- */

/* A template that cannot be parsed is kept with why; `*out` owns what it is given only on success. */
static vlcache_status make(const char *name, const char *file, const char *text, json_t *variables,
                           const vlci_chat_for *what, vlci_chat **out) {
    vlci_chat *chat = vlci_calloc(1, sizeof *chat);
    if (!chat) return vlci_fail_memory("chat template");
    chat->references = 1;
    chat->variables = json_incref(variables);
    chat->tokenizer = what->tokenizer;
    chat->end = -1;
    chat->name = vlci_strdup(name);
    chat->mark[0] = vlci_strdup(what->mark);
    chat->mark[1] = vlci_strdup(what->video_mark);
    bool whole = chat->name && chat->mark[0] && (chat->mark[1] || !what->video_mark);
    vlcache_status status = whole ? VLCACHE_OK : vlci_fail_memory("chat template");
    if (!status) status = vlci_template_create(file, text, strlen(text), &chat->tpl);
    if (status == VLCACHE_E_FORMAT) {
        chat->failure = vlci_strdup(vlcache_error_message());
        status = chat->failure ? VLCACHE_OK : vlci_fail_memory("chat template");
    }
    if (!status && chat->tpl && chat->tokenizer) status = vlci_chat_try(chat);
    if (status)
        vlci_chat_release(&chat);
    else
        *out = chat;
    return status;
}

vlci_chat *vlci_chat_retain(vlci_chat *chat) {
    __atomic_add_fetch(&chat->references, 1, __ATOMIC_RELAXED);
    return chat;
}

void vlci_chat_release(vlci_chat **handle) {
    if (!handle || !*handle) return;
    vlci_chat *chat = *handle;
    *handle = NULL;
    if (__atomic_sub_fetch(&chat->references, 1, __ATOMIC_ACQ_REL)) return;
    vlci_chat_release(&chat->of_videos);
    vlci_template_destroy(&chat->tpl);
    json_decref(chat->variables);
    vlci_free(chat->failure);
    vlci_free(chat->name);
    vlci_free(chat->mark[0]);
    vlci_free(chat->mark[1]);
    vlci_free(chat);
}

const char *vlci_chat_name(const vlci_chat *chat) {
    return chat->name;
}

int32_t vlci_chat_end(const vlci_chat *chat) {
    return chat->end;
}

/* ---- which --------------------------------------------------------------------------------------------- */

static void tell(const char *folder, const vlci_chat *chat, bool found) {
    if (!found)
        vlci_log(
            VLCACHE_LOG_WARN,
            "%.256s: has no chat template: questions are put in the form \"%s\"; where that is wrong, name "
            "another with --chat-template (session.chat_template)",
            folder, chat->name);
    if (chat->mute)
        vlci_log(VLCACHE_LOG_WARN,
                 "%s: the chat template writes nothing of a question, so the model is asked without it: name "
                 "another with --chat-template (session.chat_template)",
                 chat->name);
    if (chat->failure)
        vlci_log(VLCACHE_LOG_WARN,
                 "%.512s: the chat template cannot be used: name another with --chat-template "
                 "(session.chat_template)",
                 chat->failure);
}

vlcache_status vlci_chat_load(const char *folder, const char *otherwise, const vlci_chat_for *what,
                              vlci_chat **out) {
    static const char *const files[] = {"chat_template.jinja", "chat_template.json", "processor_config.json",
                                        "tokenizer_config.json"};
    json_t *variables = NULL;
    char *text = NULL, *path = NULL;
    int at = -1;
    *out = NULL;
    vlcache_status status = load_tokens(folder, &variables);
    for (int i = 0; i < 4 && !status && !text; i++) status = text_of_file(folder, files[at = i], &text);
    const char *name = text ? files[at] : otherwise;
    if (!status) status = vlci_path_join(folder, name, &path);
    if (!status)
        status =
            make(name, text ? path : name, text ? text : vlci_chat_text(otherwise), variables, what, out);
    if (!status) tell(folder, *out, text != NULL);
    json_decref(variables);
    vlci_free(text);
    vlci_free(path);
    return status;
}

/* In what the caller has chosen it is an error; a folder's is its author's. */
static vlcache_status refuse_mute(const char *name, vlci_chat **chat) {
    if (!(*chat)->mute) return VLCACHE_OK;
    vlci_chat_release(chat);
    return vlci_fail(VLCACHE_E_FORMAT,
                     "session.chat_template: %.512s: writes nothing of a question: give a template in Jinja "
                     "that shows messages, or one of %s",
                     name, vlci_chat_names());
}

/* A failure of what the caller has chosen is the call's. */
static vlcache_status refuse_broken(vlci_chat **chat) {
    if (!(*chat)->failure) return VLCACHE_OK;
    vlcache_status status = vlci_fail(VLCACHE_E_FORMAT, "%s", (*chat)->failure);
    vlci_chat_release(chat);
    return status;
}

vlcache_status vlci_chat_open(const vlci_chat *base, const char *asked, const vlci_chat_for *what,
                              vlci_chat **out) {
    const char *text = vlci_chat_text(asked);
    bool written = strstr(asked, "{{") || strstr(asked, "{%");
    char *file = NULL;
    size_t bytes = 0;
    *out = NULL;
    if (!text && !written && !vlci_path_is_file(asked))
        return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "session.chat_template", asked,
                                "must be one of %s, or a file with a template in Jinja", vlci_chat_names());
    vlcache_status status = text || written ? VLCACHE_OK : vlci_file_read(asked, FILE_LIMIT, &file, &bytes);
    const char *name = text || !written ? asked : "text";
    if (!status) status = make(name, name, text ? text : written ? asked : file, base->variables, what, out);
    if (!status) status = refuse_broken(out);
    if (!status) status = refuse_mute(name, out);
    vlci_free(file);
    return status;
}

vlcache_status vlci_chat_show_videos(vlci_chat *chat, const char *text) {
    const vlci_chat_for what = {chat->tokenizer, chat->mark[0], chat->mark[1]};
    vlcache_status status = make("videos", "videos", text, chat->variables, &what, &chat->of_videos);
    return status ? status : refuse_broken(&chat->of_videos);
}

vlcache_status vlci_chat_named(const char *name, vlci_chat **out) {
    const vlci_chat_for nothing = {NULL, "<image>", NULL};
    *out = NULL;
    return make(name, name, vlci_chat_text(name), NULL, &nothing, out);
}
