/*
 * vlcache-run.c - asks a vision-language model about pictures, or a text model.
 *
 *     parse -> pictures, videos -> device -> model -> session -> ask (or chat) -> report
 */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/devices.h"
#include "common/exit.h"
#include "common/folder.h"
#include "common/interrupt.h"
#include "common/memory.h"
#include "common/policy.h"
#include "common/profile.h"
#include "run/chat.h"
#include "run/heatmap.h"
#include "run/help.h"
#include "run/json.h"
#include "run/turn.h"

/* --help, --version, --list-devices. */
static int tell(run *r) {
    int code = EXIT_OK;
    if (r->options.action == ACTION_HELP) help_print(&r->console);
    if (r->options.action == ACTION_VERSION)
        console_print(&r->console, "vlcache-run %s (libvlcache %s)\n", VLCACHE_VERSION, vlcache_version());
    if (r->options.action == ACTION_DEVICES) code = devices_print(&r->console, r->options.json);
    return code;
}

static int load_pictures(run *r) {
    int code = EXIT_OK;
    for (int i = 0; i < r->options.n_images && !code; i++)
        code = pictures_add(&r->pictures, r->options.images[i], &r->console);
    return code;
}

static int open_videos(run *r) {
    const options *o = &r->options;
    int code = EXIT_OK;
    for (int i = 0; i < o->n_videos && !code; i++)
        code = videos_add(&r->videos, o->videos[i].path,
                          !o->videos[i].frames ? 0
                          : o->fps > 0         ? o->fps
                                               : DEFAULT_FPS,
                          &r->console);
    return code;
}

static int open_device(run *r) {
    vlcache_device_options o = VLCACHE_DEVICE_OPTIONS_INIT;
    o.progress = console_progress;
    o.progress_user = &r->console;
    o.profile = r->options.profile;
    vlcache_status status = vlcache_device_open(r->options.device, &o, &r->device);
    return status ? console_fail_status(&r->console, status) : EXIT_OK;
}

static int load_model(run *r) {
    char shipped[FOLDER_BYTES];
    const char *folder = r->options.model;
    if (!folder && folder_of_model(shipped)) folder = shipped;
    if (!folder)
        return console_fail(
            &r->console, EXIT_INPUT,
            "no model: the one that ships is not where it was installed; name one with -m DIR");
    vlcache_model_options o = VLCACHE_MODEL_OPTIONS_INIT;
    o.dtype = r->options.dtype;
    o.min_pixels = r->options.min_pixels;
    o.max_pixels = r->options.max_pixels;
    o.no_mmap = r->options.no_mmap;
    o.progress = console_progress;
    o.progress_user = &r->console;
    vlcache_status status = vlcache_model_load(r->device, folder, &o, &r->model);
    return status ? console_fail_status(&r->console, status) : EXIT_OK;
}

static int begin_session(run *r) {
    vlcache_model_info info;
    vlcache_model_describe(r->model, &info);
    if (!info.patch_side && !r->options.compresses) r->options.compress.policy = "full";
    vlcache_compress_options *compress = &r->options.compress;
    const char *policy = r->options.compresses
                             ? policy_comes_to(compress, compress->policy, r->model, &r->console)
                             : vlcache_policy_of(r->model, compress);
    if (policy) r->options.compress.policy = policy; /* what it comes to is what is told */
    vlcache_session_options o = VLCACHE_SESSION_OPTIONS_INIT;
    o.context = r->options.context;
    o.chat_template = r->options.chat_template;
    o.system = r->options.system;
    o.compress = &r->options.compress;
    o.recall = strcmp(r->options.recall, "host") == 0 ? VLCACHE_RECALL_HOST : VLCACHE_RECALL_NONE;
    vlcache_status status = vlcache_session_create(r->model, &o, &r->session);
    console_erase(&r->console);
    return status ? console_fail_status(&r->console, status) : EXIT_OK;
}

/* One question. What the user cancelled is still reported, as far as it went. */
static int ask(run *r) {
    const options *o = &r->options;
    const vlcache_answer *answer = NULL;
    int code = turn_ask(r, o->prompt, &answer), report = EXIT_OK;
    if (answer && o->json) report = json_print(r, answer);
    if (answer && !report && o->heatmap) report = heatmap_write(r, answer, o->heatmap);
    return code ? code : report;
}

static void close_all(run *r) {
    console_erase(&r->console);
    vlcache_session_destroy(&r->session);
    vlcache_model_destroy(&r->model);
    vlcache_device_destroy(&r->device);
    pictures_clear(&r->pictures);
    videos_clear(&r->videos);
    options_release(&r->options);
}

int main(int argc, char **argv) {
    run r = {.console = {.quiet = false}};
    memory_guard_json();
    int code = options_parse(argc, argv, &r.options);
    console_open(&r.console, r.options.quiet, !r.options.json);
    interrupt_install();
    if (!code && r.options.action != ACTION_ASK) {
        code = tell(&r);
        goto done;
    }
    double start = clock_seconds();
    if (!code) code = load_pictures(&r);
    if (!code) code = open_videos(&r);
    if (!code && r.options.heatmap) code = heatmap_check(&r, r.options.heatmap);
    if (!code) start = clock_seconds();
    interrupt_says(true);
    if (!code) code = open_device(&r);
    if (!code) code = load_model(&r);
    r.load_ms = 1e3 * (clock_seconds() - start);
    if (!code) code = begin_session(&r);
    interrupt_says(false);
    if (!code && interrupt_seen()) code = EXIT_INTERRUPT;
    if (!code) code = r.options.prompt ? ask(&r) : chat(&r);
    if (!code && r.options.profile) code = profile_print(&r.console, r.device);
done:
    close_all(&r);
    return console_close(&r.console, code);
}
