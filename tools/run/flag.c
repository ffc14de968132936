/*
 * flag.c - every flag: spellings, field, range, what --help says of it.
 */
#include "run/flag.h"

#include <stdio.h>

#define FIELD(member) offsetof(options, member)
#define MOST_TOKENS   (1 << 20)
#define MOST_PICKS    1000000

/* clang-format off */
const flag flags[] = {
    {FLAG_GROUP, .name = "Model and device"},
    {FLAG_TEXT, 'm', "model", .argument = "DIR", .offset = FIELD(model),
     .help = "Hugging Face folder of a LLaVA or LLaVA-NeXT model [the one that ships]"},
    {FLAG_TEXT, .name = "device", .argument = "SEL", .offset = FIELD(device),
     .help = "index, or part of the name of a device or platform [the first of\n--list-devices: GPUs come before CPUs]"},
    {FLAG_DTYPE, .name = "dtype", .argument = "T", .offset = FIELD(dtype),
     .help = "how weights and KV rows are stored: auto (as in the checkpoint), bf16,\nf16 or f32"},
    {FLAG_WHOLE, 'c', "ctx-size", .argument = "N", .offset = FIELD(context), .high = MOST_TOKENS,
     .help = "most tokens of the conversation, those of pictures included; 0: as\nmany as the model takes"},

    {FLAG_GROUP, .name = "Question"},
    {FLAG_IMAGE, .name = "image", .argument = "FILE",
     .help = "a picture (JPEG, PNG, BMP, GIF, PNM); may be given again; - reads\nstandard input"},
    {FLAG_TEXT, 'p', "prompt", .argument = "TEXT", .offset = FIELD(prompt),
     .help = "the question; without it, a chat"},
    {FLAG_TEMPLATE, .name = "chat-template", .argument = "NAME", .offset = FIELD(chat_template),
     .help = "how questions and answers are put [as the checkpoint says]; one of"},
    {FLAG_SWITCH, .name = "raw", .offset = FIELD(raw),
     .help = "tokenise the prompt as it stands: no template, nothing added, special\n"
             "tokens parsed, one <image> for each picture"},

    {FLAG_GROUP, .name = "KV cache"},
    {FLAG_POLICY, .name = "policy", .argument = "NAME", .offset = FIELD(compress.policy),
     .help = "which rows are kept: vlcache as published, vlcache+ better at the same\nsize, full all of them; one of"},
    {FLAG_COMPRESS, .name = "budget", .argument = "X", .offset = FIELD(compress.budget),
     .help = "share of the cache to keep, above 0, at most 1; at 0.1 vlcache+ keeps\n98% of the shipped model's score on pages, vlcache 45%"},
    {FLAG_COMPRESS, .name = "threshold", .argument = "X", .offset = FIELD(compress.threshold),
     .help = "attention below X times its row's maximum counts as zero, 0 to 1"},
    {FLAG_COMPRESS, .name = "recent", .argument = "X", .offset = FIELD(compress.recent),
     .help = "share of the kept tokens that are the prompt's last, 0 to 1"},

    {FLAG_GROUP, .name = "Answer"},
    {FLAG_WHOLE, 'n', "predict", .also = {"n-predict"}, .argument = "N", .offset = FIELD(predict), .high = MOST_TOKENS,
     .help = "most tokens of an answer"},
    {FLAG_REAL, .name = "temp", .also = {"temperature"}, .argument = "X", .offset = FIELD(temperature), .high = 100,
     .help = "temperature; 0: always the most likely token"},
    {FLAG_WHOLE, .name = "top-k", .argument = "N", .offset = FIELD(top_k), .high = MOST_PICKS,
     .help = "draw among the N most likely tokens; 0: among all"},
    {FLAG_ABOVE, .name = "top-p", .argument = "X", .offset = FIELD(top_p), .high = 1,
     .help = "draw among the fewest tokens that reach probability X"},
    {FLAG_SEED, 's', "seed", .argument = "N", .offset = FIELD(seed),
     .help = "of the draws: same seed, same device, same answer"},

    {FLAG_GROUP, .name = "Output"},
    {FLAG_SWITCH, .name = "json", .offset = FIELD(json),
     .help = "one JSON object on standard output instead of the streamed answer"},
    {FLAG_SWITCH, .name = "dump-kept", .offset = FIELD(dump_kept),
     .help = "in the JSON object, also every kept position: kept[layer][kv head][...]"},
    {FLAG_TEXT, .name = "heatmap", .argument = "OUT.png", .offset = FIELD(heatmap),
     .help = "draw over the picture what was kept: bright where many (layer, kv\n"
             "head) pairs keep the visual token, dimmed where none does, almost\n"
             "black where the model does not look; where several tokens show a\n"
             "place, the most kept one counts. Several pictures: OUT-1.png, ..."},
    {FLAG_SWITCH, .name = "quiet", .offset = FIELD(quiet),
     .help = "no progress bars and no summary line on standard error"},
    {FLAG_SWITCH, .name = "profile", .offset = FIELD(profile),
     .help = "at the end, device time by kernel on standard error; every launch is\nwaited for, so that the whole takes longer"},

    {FLAG_GROUP, .name = "Other"},
    {FLAG_ACTION, .name = "list-devices", .low = ACTION_DEVICES,
     .help = "index, type, memory, name and platform of each OpenCL device"},
    {FLAG_ACTION, 'h', "help", .low = ACTION_HELP,
     .help = "this text"},
    {FLAG_ACTION, .name = "version", .low = ACTION_VERSION,
     .help = "version of tool and library"},
    {FLAG_END, .name = NULL},
};
/* clang-format on */

void flag_names(const flag *f, char *text, size_t capacity) {
    const char *name;
    size_t used = 0;
    text[0] = 0;
    if (f->kind == FLAG_TEMPLATE) snprintf(text, capacity, "%s", vlcache_chat_template_names());
    for (size_t i = 0; f->kind == FLAG_POLICY && (name = vlcache_policy_name(i)) && used < capacity; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%s", i ? ", " : "", name);
}

void flag_default(const flag *f, char *text, size_t capacity) {
    options defaults;
    options_default(&defaults);
    const void *field = (const char *)&defaults + f->offset;
    text[0] = 0;
    if (f->kind == FLAG_WHOLE) snprintf(text, capacity, "%d", *(const int *)field);
    if (f->kind == FLAG_REAL || f->kind == FLAG_ABOVE || f->kind == FLAG_COMPRESS)
        snprintf(text, capacity, "%g", *(const double *)field);
    if (f->kind == FLAG_SEED) snprintf(text, capacity, "%llu", (unsigned long long)*(const uint64_t *)field);
    if (f->kind == FLAG_POLICY) snprintf(text, capacity, "%s", *(const char *const *)field);
    if (f->kind == FLAG_DTYPE)
        snprintf(text, capacity, "%s", vlcache_dtype_name(*(const vlcache_dtype *)field));
}
