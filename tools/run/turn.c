/*
 * turn.c - one turn: the prompt and the options in the library's terms, and what came of it.
 */
#include "run/turn.h"

#include "common/exit.h"
#include "common/interrupt.h"

static vlcache_status ask_once(run *r, const char *text, const vlcache_answer **answer) {
    const options *o = &r->options;
    vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
    vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
    prompt.text = text;
    prompt.images = (const vlcache_image *const *)r->pictures.items;
    prompt.n_images = r->pictures.n;
    prompt.videos = r->videos.items;
    prompt.n_videos = r->videos.n;
    prompt.video_fps = o->sample_fps;
    prompt.video_frames = (size_t)o->sample_frames;
    prompt.stream_frames = (size_t)o->stream;
    prompt.raw = o->raw;
    generate.max_tokens = o->predict;
    generate.temperature = (float)o->temperature;
    generate.top_k = o->top_k;
    generate.top_p = (float)o->top_p;
    generate.seed = o->seed;
    generate.on_text = console_text;
    generate.progress = console_progress;
    generate.user = &r->console;
    return vlcache_session_ask(r->session, &prompt, &generate, answer);
}

/* The rows of this answer's prompt join those of the conversation, which began with it where the context
 * holds no more; the answer's own rows are all kept and count from the next turn on. */
static void sum_up(run *r, const vlcache_answer *a) {
    const vlcache_compress_stats *kv = &a->compress;
    uint64_t row = kv->tokens ? kv->bytes_full / (uint64_t)kv->tokens : 0;
    bool whole = kv->tokens > a->prompt_tokens; /* recalled: all of the conversation was chosen among */
    if (whole || a->context_tokens - a->prompt_tokens - a->n_tokens <= 1) r->kv_kept = r->kv_full = 0;
    r->kv_kept += kv->bytes_kept;
    r->kv_full += kv->bytes_full;
    console_summary(&r->console, a, r->kv_kept, r->kv_full);
    r->kv_kept += row * (uint64_t)a->n_tokens;
    r->kv_full += row * (uint64_t)a->n_tokens;
}

int turn_ask(run *r, const char *text, const vlcache_answer **answer) {
    vlcache_status status;
    interrupt_cancels(r->session);
    if (interrupt_seen()) vlcache_session_cancel(r->session); /* pressed before the line above */
    do /* a Ctrl-C that came when the turn before had just ended would cancel this one */
        status = ask_once(r, text, answer);
    while (status == VLCACHE_E_CANCELLED && !interrupt_seen() && !r->console.failure);
    interrupt_cancels(NULL);
    interrupt_forget(); /* it was for this turn; the next one is for the program */
    if (status) return console_fail_status(&r->console, status);
    console_end_line(&r->console);
    if (r->console.failure) return console_check_output(&r->console);
    sum_up(r, *answer);
    return (*answer)->finish == VLCACHE_FINISH_CANCELLED ? EXIT_INTERRUPT : EXIT_OK;
}
