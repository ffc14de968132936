/*
 * options.c - the flags of vlcache-run: spellings, fields, ranges, what --help says of them.
 */
#include "run/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/flag.h"
#include "common/memory.h"
#include "common/policy.h"
#include "common/template.h"

#define FIELD(member) offsetof(options, member)
#define MOST_TOKENS   (1 << 20)
#define MOST_PIXELS   (1 << 28)
#define MOST_PICKS    1000000

/* ---- readers ------------------------------------------------------------------------------------------ */

static int read_image(const flag *f, const char *name, const char *text, void *into) {
    options *o = into;
    (void)f, (void)name;
    o->images[o->n_images++] = text;
    return EXIT_OK;
}

static int read_video(const flag *f, const char *name, const char *text, void *into) {
    options *o = into;
    (void)f;
    o->videos[o->n_videos++] = (video_option){text, strcmp(name, "--frames") == 0};
    return EXIT_OK;
}

/* The library knows the ranges: it judges options with this one value in them. What goes together is looked
 * at in the end. */
static int read_compress(const flag *f, const char *name, const char *text, void *into) {
    double *value = (double *)((char *)into + f->offset);
    ((options *)into)->compresses = true;
    if (!flag_read_number(text, value)) *value = NAN;
    vlcache_compress_options judged = VLCACHE_COMPRESS_OPTIONS_INIT;
    *(double *)((char *)&judged + (f->offset - FIELD(compress))) = *value;
    if (!vlcache_compress_check(&judged)) return EXIT_OK;
    return flag_refuse("%s \"%s\": %s", name, text, vlcache_last_error()->hint);
}

static policy_spec spec_of(const options *o) {
    bool host = strcmp(o->recall, "host") == 0;
    return (policy_spec){o->compress.policy, o->compress, host ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE,
                         o->stream};
}

/* What @ says of other flags is theirs. */
static int read_policy(const flag *f, const char *name, const char *text, void *into) {
    options *o = into;
    policy_spec p = spec_of(o);
    char *copy = memory_take(strlen(text) + 1, 1);
    (void)f;
    o->compresses = true;
    int code = policy_read(strcpy(copy, text), text, &p);
    vlcache_compress_options named = VLCACHE_COMPRESS_OPTIONS_INIT;
    named.policy = p.options.policy;
    if (!code && vlcache_compress_check(&named))
        code = flag_refuse("%s: \"%s\" is unknown: %s", name, copy, vlcache_last_error()->hint);
    free(o->policy_text);
    o->policy_text = copy;
    o->compress = p.options;
    o->stream = p.stream;
    o->recall = p.recall ? "host" : "none";
    return code;
}

static int read_axis(const flag *f, const char *name, const char *text, void *into) {
    ((options *)into)->compresses = true;
    if (!vlcache_compress_set(&((options *)into)->compress, f->name, text)) return EXIT_OK;
    return flag_refuse("%s \"%s\": %s", name, text, vlcache_last_error()->hint);
}

static void name_formats(char *text, size_t capacity) {
    snprintf(text, capacity, "%s", vlcache_image_formats());
}

static void name_policies(char *text, size_t capacity) {
    const char *name;
    size_t used = 0;
    for (size_t i = 0; (name = vlcache_policy_name(i)) && used < capacity; i++)
        used += (size_t)snprintf(text + used, capacity - used, "%s%s", i ? ", " : "", name);
}

/* ---- the table ---------------------------------------------------------------------------------------- */

/* clang-format off */
static const flag flags[] = {
    {FLAG_GROUP, .name = "Model and device"},
    {FLAG_TEXT, 'm', "model", .argument = "DIR", .offset = FIELD(model),
     .help = "Hugging Face folder of a model; README.md lists the families, and text\nmodels, which take no pictures [the one that ships]"},
    {FLAG_TEXT, .name = "device", .argument = "SEL", .offset = FIELD(device),
     .help = "index, or part of the name of a device or platform [the first of\n--list-devices: GPUs come before CPUs]"},
    {FLAG_DTYPE, .name = "dtype", .argument = "T", .offset = FIELD(dtype),
     .help = "how weights and KV rows are stored: auto (as in the checkpoint), bf16,\nf16 or f32"},
    {FLAG_SWITCH, .name = "no-mmap", .offset = FIELD(no_mmap),
     .help = "reads all weights into memory of its own, those too that a processor would\nread in their files"},
    {FLAG_WHOLE, 'c', "ctx-size", .argument = "N", .offset = FIELD(context), .high = MOST_TOKENS,
     .help = "most tokens of the conversation, those of pictures included; 0: as\nmany as the model takes"},
    {FLAG_WHOLE, .name = "min-pixels", .argument = "N", .offset = FIELD(min_pixels), .high = MOST_PIXELS,
     .help = "resize pictures to at least N pixels, where the model takes any size\n(Qwen-VL); 0: as the checkpoint says"},
    {FLAG_WHOLE, .name = "max-pixels", .argument = "N", .offset = FIELD(max_pixels), .high = MOST_PIXELS,
     .help = "the same, at most N: fewer pixels are fewer tokens; Qwen2.5-VL has one for\n28 x 28; 0: as the checkpoint says"},

    {FLAG_GROUP, .name = "Question"},
    {FLAG_OWN, .name = "image", .argument = "FILE", .read = read_image,
     .names = name_formats,
     .help = "a picture; may be given again; - reads standard input. It stands before\nthe question, or where that "
             "has as many <image> marks as there are\npictures. Read are"},
    {FLAG_OWN, .name = "video", .argument = "FILE", .read = read_video,
     .help = "a video, for models that take them; may be given again. It stands\nbehind the pictures, or where the question marks it"},
    {FLAG_OWN, .name = "frames", .argument = "DIR", .read = read_video,
     .help = "a video as a folder of pictures of one size, in the order of their names"},
    {FLAG_REAL, .name = "fps", .argument = "X", .offset = FIELD(fps), .high = VLCACHE_VIDEO_MAX_FPS,
     .help = "with --frames: how many of them are a second of the video; 0 stands for 2"},
    {FLAG_REAL, .name = "sample-fps", .argument = "X", .offset = FIELD(sample_fps), .high = VLCACHE_VIDEO_MAX_FPS,
     .help = "frames of each second that are seen; 0: as the model has it (Qwen-VL: 2 a\nsecond, others: a number of the whole)"},
    {FLAG_WHOLE, .name = "sample-frames", .argument = "N", .offset = FIELD(sample_frames), .high = VLCACHE_VIDEO_MAX_FRAMES,
     .help = "in its place: frames of the whole video that are seen; 0: by rate"},
    {FLAG_WHOLE, .name = "stream", .argument = "N", .offset = FIELD(stream), .high = VLCACHE_VIDEO_MAX_FRAMES,
     .help = "read a video N frames at a time and compress the cache between, so that\nit never grows beyond what N frames take and the budget leaves of them;\n0: all at once"},
    {FLAG_TEXT, 'p', "prompt", .argument = "TEXT", .offset = FIELD(prompt),
     .help = "the question; without it, a chat"},
    {FLAG_TEXT, .name = "chat-template", .argument = "NAME|FILE", .offset = FIELD(chat_template),
     .read = template_read, .names = template_names,
     .help = "how questions and answers are put [as the checkpoint says]: a file with\na template in Jinja, or one of"},
    {FLAG_TEXT, .name = "system", .argument = "TEXT", .offset = FIELD(system),
     .help = "what the model is told before the conversation, where its template\nhas a place for that"},
    {FLAG_SWITCH, .name = "raw", .offset = FIELD(raw),
     .help = "tokenise the prompt as it stands: no template, nothing added, special\n"
             "tokens parsed, for each picture the model's own mark (<image>;\n<|image_pad|> of Qwen-VL, <IMG_CONTEXT> of InternVL, <|image|> of\nLlama 3.2)"},

    {FLAG_GROUP, .name = "KV cache"},
    {FLAG_TEXT, .name = "policy", .argument = "NAME", .offset = FIELD(compress.policy), .read = read_policy, .names = name_policies,
     .help = "which rows are kept: vlcache as published; vlcache+ all of them, in few\nbits; centroids fewer, as they are, and what stands for the others; full all\nof them (with a text model unless a policy or a budget is given); with --stream it is\ncentroids where none is named; axes behind @, as for vlcache-eval:\nvlcache@pooling=grid:1x5,recent=0.2; one of"},
    {FLAG_REAL, .name = "budget", .argument = "X", .offset = FIELD(compress.budget), .read = read_compress,
     .help = "share of the full cache's bytes to keep, each layer's rounded to\nwhole rows, above 0, at most 1; at 0.1 vlcache+ keeps 100% of the\nshipped model's score on pages, vlcache 55%"},
    {FLAG_OWN, .name = "storage", .argument = "HOW", .read = read_axis,
     .help = "how rows are stored: exact; bits:K/V[:GROUP[:AGE]], 2, 3, 4 or 8 bits a\nnumber of keys and values, with any policy; or coded[:BITS][:pre, :blk:RUN\nor :rotated], with policy vlcache+ or h2o [as the policy has it]"},
    {FLAG_OWN, .name = "candidates", .argument = "WHICH", .read = read_axis,
     .help = "which rows may go: all; visual, and text stays whole; or text. The\nbudget is the share of these that stays [all]"},
    {FLAG_REAL, .name = "threshold", .argument = "X", .offset = FIELD(compress.threshold), .read = read_compress,
     .help = "attention below X times its row's maximum counts as zero, 0 to 1"},
    {FLAG_REAL, .name = "recent", .argument = "X", .offset = FIELD(compress.recent), .read = read_compress,
     .help = "share of the kept tokens that are the prompt's last, 0 to 1"},

    {FLAG_CHOICE, .name = "recall", .argument = "WHERE", .offset = FIELD(recall), .choices = "none|host",
     .help = "where rows stay that the cache drops: host, in the host's memory, from\nwhich each later question of a chat has all of them back and chooses\nanew; none"},

    {FLAG_GROUP, .name = "Answer"},
    {FLAG_WHOLE, 'n', "predict", .also = "n-predict", .argument = "N", .offset = FIELD(predict), .high = MOST_TOKENS,
     .help = "most tokens of an answer"},
    {FLAG_REAL, .name = "temp", .also = "temperature", .argument = "X", .offset = FIELD(temperature), .high = 100,
     .help = "temperature, at most 100; 0: always the most likely token"},
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
             "place, the most kept one counts. Several pictures, or frames of a video\nthat are seen: OUT-1.png, ... vlcache+ keeps all: name another policy"},
    {FLAG_SWITCH, .name = "quiet", .offset = FIELD(quiet),
     .help = "no progress bars and no summary line on standard error"},
    {FLAG_SWITCH, .name = "profile", .offset = FIELD(profile),
     .help = "at the end, device time by kernel on standard error; every launch is\nwaited for, so that the whole takes longer"},

    {FLAG_GROUP, .name = "Other"},
    {FLAG_ACTION, .name = "list-devices", .offset = FIELD(action), .low = ACTION_DEVICES,
     .help = "index, type, memory, name and platform of each OpenCL device; with --json\nall that it says of itself"},
    {FLAG_ACTION, 'h', "help", .offset = FIELD(action), .low = ACTION_HELP,
     .help = "this text"},
    {FLAG_ACTION, .name = "version", .offset = FIELD(action), .low = ACTION_VERSION,
     .help = "version of tool and library"},
    {FLAG_END, .help = "a question is given with -p"},
};
/* clang-format on */

/* ---- the whole line ----------------------------------------------------------------------------------- */

static void set_defaults(options *o) {
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
    *o = (options){.predict = generate.max_tokens,
                   .temperature = (double)generate.temperature,
                   .top_k = generate.top_k,
                   .top_p = (double)generate.top_p,
                   .seed = generate.seed,
                   .recall = "none",
                   .compress = compress};
    o->compress.policy = DEFAULT_POLICY;
    o->compress.budget = DEFAULT_BUDGET;
}

void options_release(options *o) {
    free(o->images);
    free(o->videos);
    free(o->policy_text);
    o->images = NULL;
    o->videos = NULL;
    o->policy_text = NULL;
}

void options_print_flags(void) {
    options defaults;
    set_defaults(&defaults);
    flags_print(flags, &defaults);
}

static int check_videos(const options *o) {
    bool folders = !o->prompt; /* a chat may name them later */
    for (int i = 0; i < o->n_videos; i++) folders = folders || o->videos[i].frames;
    if (o->fps > 0 && !folders) return flag_refuse("--fps: is about --frames DIR, which is not given");
    if (o->sample_fps > 0 && o->sample_frames)
        return flag_refuse("--sample-fps and --sample-frames: give one of both");
    if ((o->sample_fps > 0 || o->sample_frames) && o->prompt && !o->n_videos)
        return flag_refuse("--sample-%s: needs a video, --video FILE or --frames DIR",
                           o->sample_frames ? "frames" : "fps");
    if (o->stream && o->prompt && !o->n_videos)
        return flag_refuse("--stream: needs a video, --video FILE or --frames DIR");
    return EXIT_OK;
}

/* Flags that need one another, or exclude one another. */
static int check_together(const options *o) {
    int from_input = 0;
    policy_spec policy = spec_of(o);
    if (o->action != ACTION_ASK) return EXIT_OK;
    int code = policy_check(&policy);
    if (code) return code;
    for (int i = 0; i < o->n_images; i++) from_input += strcmp(o->images[i], "-") == 0;
    if (from_input > 1) return flag_refuse("--image -: standard input holds one picture");
    if (from_input && !o->prompt)
        return flag_refuse("--image -: needs -p, since a chat reads standard input");
    if (o->json && !o->prompt) return flag_refuse("--json: needs -p");
    if (o->dump_kept && !o->json) return flag_refuse("--dump-kept: needs --json");
    if (o->heatmap && !o->prompt) return flag_refuse("--heatmap: needs -p");
    if (o->heatmap && (!*o->heatmap || strcmp(o->heatmap, "-") == 0))
        return flag_refuse("--heatmap: needs the name of a file");
    if (o->heatmap && !o->n_images && !o->n_videos)
        return flag_refuse("--heatmap: needs a picture, --image FILE");
    return check_videos(o);
}

int options_parse(int argc, char **argv, options *o) {
    set_defaults(o);
    o->images = calloc((size_t)argc + 1, sizeof *o->images);
    o->videos = calloc((size_t)argc + 1, sizeof *o->videos);
    if (!o->images || !o->videos) {
        fputs("vlcache-run: out of host memory\n", stderr);
        return EXIT_MEMORY;
    }
    int code = flags_parse(flags, argc, argv, o);
    if (o->stream && !o->policy_text) o->compress.policy = STREAM_POLICY;
    return code ? code : check_together(o);
}
