/*
 * chat.c - one row of a table for each chat template, and which row a checkpoint means.
 */
#include "tokens/chat.h"

#include <string.h>

#include "checkpoint/json.h"
#include "core/alloc.h"

struct vlci_chat_template {
    const char *name;
    const char *bos;    /* opens the first turn */
    const char *before; /* in front of what the user shows and says */
    const char *after;  /* behind it; the answer follows */
    const char *close;  /* ends the answer */
    const char *gap;    /* between a closed answer and the next turn */
    const char *mark[4];
};

/* The forms of the Hugging Face conversions: llava-1.5 and llava-v1.6-vicuna, llava-v1.6-mistral,
 * llava-v1.6-34b, llama3-llava-next. Most telling marks first. */
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

const char *vlci_chat_bos(const vlci_chat_template *chat) {
    return chat->bos;
}

static const vlci_chat_template *recognise(const char *text) {
    for (int i = 0; i < N_TEMPLATES; i++)
        for (int k = 0; k < 4 && templates[i].mark[k]; k++)
            if (strstr(text, templates[i].mark[k])) return &templates[i];
    return NULL;
}

/* "chat_template": a text, or a list of {"name", "template"}; the first that is recognised counts. */
static const vlci_chat_template *recognise_json(const char *text, size_t bytes, const char *path) {
    const vlci_chat_template *found = NULL;
    json_t *root = NULL;
    if (vlci_json_parse(path, text, bytes, &root)) return NULL;
    const json_t *value = json_object_get(root, "chat_template");
    if (json_is_string(value)) found = recognise(json_string_value(value));
    for (size_t i = 0; i < json_array_size(value) && !found; i++) {
        const char *one = json_string_value(json_object_get(json_array_get(value, i), "template"));
        if (one) found = recognise(one);
    }
    json_decref(root);
    return found;
}

static const vlci_chat_template *recognise_file(const char *folder, const char *name) {
    const vlci_chat_template *found = NULL;
    char *path = NULL, *text = NULL;
    size_t bytes;
    if (!vlci_path_join(folder, name, &path) && vlci_path_exists(path) &&
        !vlci_file_read(path, FILE_LIMIT, &text, &bytes))
        found = strstr(name, ".jinja") ? recognise(text) : recognise_json(text, bytes, path);
    vlci_free(path);
    vlci_free(text);
    return found;
}

const vlci_chat_template *vlci_chat_detect(const char *folder, const vlci_config *config) {
    static const char *const files[] = {"chat_template.jinja", "chat_template.json", "tokenizer_config.json",
                                        "processor_config.json"};
    const vlci_chat_template *found = NULL;
    for (int i = 0; i < 4 && !found; i++) found = recognise_file(folder, files[i]);
    if (found) return found;
    bool mistral = config->text_model_type && strcmp(config->text_model_type, "mistral") == 0;
    return vlci_chat_find(mistral ? "mistral" : "vicuna");
}

vlcache_status vlci_chat_turn(const vlci_chat_template *chat, bool first, bool answer_closed, int n_images,
                              const char *user, char **text) {
    static const char mark[] = "<image>\n";
    *text = NULL;
    if (n_images < 0 || n_images > 4096)
        return vlci_fail(VLCACHE_E_ARGUMENT, "chat: %d images in one turn", n_images);
    char *marks = vlci_alloc((size_t)n_images * (sizeof mark - 1) + 1, 1);
    if (!marks) return vlci_fail_memory("prompt");
    marks[0] = '\0';
    for (int i = 0; i < n_images; i++) memcpy(marks + (size_t)i * (sizeof mark - 1), mark, sizeof mark);
    *text = vlci_format("%s%s%s%s%s%s",
                        first           ? chat->bos
                        : answer_closed ? ""
                                        : chat->close,
                        first ? "" : chat->gap, chat->before, marks, user, chat->after);
    vlci_free(marks);
    return *text ? VLCACHE_OK : vlci_fail_memory("prompt");
}
