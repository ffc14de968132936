/*
 * vlcache-bench.c - how fast: prompts, tokens, many sequences at once, kernels; or how many fit.
 *
 *     options --> device, model or geometry --> ceilings --> runs --> medians --> tables
 */
#include <stdio.h>

#include "bench/geometry.h"
#include "bench/kernels.h"
#include "bench/speed.h"
#include "common/exit.h"
#include "common/interrupt.h"
#include "common/memory.h"
#include "common/profile.h"

/* What a table to read does not have in its lines. */
static void say_what(bench *b) {
    const policy_list *of = &b->options.policies;
    if (b->options.quiet) return;
    for (size_t i = 0; i < of->n && b->model; i++)
        policy_comes_to(&of->items[i].options, of->items[i].label, b->model, &b->console);
    if (b->model)
        console_say(&b->console, "%s, %s: %.2f GB of weights in %.2f s\n", b->device_info.name,
                    b->options.geometry ? b->options.geometry : b->info.family,
                    (double)b->info.weight_bytes / 1e9, b->load_seconds);
    if (b->ceiling.copy > 0)
        console_say(&b->console, "copy %.0f GB/s, matrix product %.3g TFLOP/s\n", b->ceiling.copy / 1e9,
                    b->ceiling.product / 1e12);
}

static int run(bench *b) {
    const options *o = &b->options;
    int code = o->action == ACTION_KERNELS ? bench_open_device(b) : bench_open(b);
    if (code) return code;
    if (o->action == ACTION_KERNELS) return kernels_tell(b);
    say_what(b);
    if (o->action == ACTION_PAPER) return paper_tell(b);
    return o->kv_mib > 0 ? fit_tell(b) : speed_tell(b);
}

int main(int argc, char **argv) {
    bench b = {0};
    memory_guard_json();
    int code = options_parse(argc, argv, &b.options);
    console_open(&b.console, b.options.quiet, false);
    interrupt_install();
    interrupt_says(true);
    if (!code && b.options.action == ACTION_HELP)
        options_help();
    else if (!code && b.options.action == ACTION_VERSION)
        printf("vlcache-bench %s (libvlcache %s)\n", VLCACHE_VERSION, vlcache_version());
    else if (!code && b.options.action == ACTION_CONFIG)
        puts(geometry_find(b.options.geometry));
    else if (!code)
        code = run(&b);
    if (code == EXIT_INTERRUPT && b.console.failure) code = EXIT_OK; /* console_close() knows why */
    if (!code && b.options.profile && b.device) code = profile_print(&b.console, b.device);
    bench_close(&b);
    options_release(&b.options);
    return console_close(&b.console, code);
}
