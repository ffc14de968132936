/*
 * console.c - errors, the streamed answer and its summary; bar.c draws the bars.
 */
#include "common/console.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"

void console_open(console *c, bool quiet, bool stream) {
    const char *terminal = getenv("TERM");
    *c = (console){.quiet = quiet, .stream = stream};
    c->bars = !quiet && isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    c->sanitise = isatty(STDOUT_FILENO);
}

/* ---- the answer --------------------------------------------------------------------------------------- */

/* A model repeats what a picture says, and a picture may say an escape sequence: control characters other
 * than newline and tab do not reach a terminal. C1 ones are U+0080..U+009F, in UTF-8 C2 80..C2 9F. */
static void put_sanitised(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        bool c0 = (*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7f;
        bool c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;
        if (c1) at++;
        if (c0 || c1)
            fputs("\xef\xbf\xbd", stdout); /* U+FFFD */
        else
            putchar(*at);
    }
}

bool console_text(void *user, const char *piece) {
    console *c = user;
    if (!c->stream || !*piece) return !c->failure;
    console_erase(c);
    if (c->sanitise)
        put_sanitised(piece);
    else
        fputs(piece, stdout);
    if (fflush(stdout) && !c->failure) c->failure = errno;
    c->open_line = piece[strlen(piece) - 1] != '\n';
    return !c->failure;
}

void console_end_line(console *c) {
    console_erase(c);
    if (c->open_line) putchar('\n');
    if (fflush(stdout) && !c->failure) c->failure = errno;
    c->open_line = false;
}

int console_check_output(console *c) {
    if (!c->failure || c->failure == EPIPE) return EXIT_OK;
    return console_fail(c, EXIT_INPUT, "standard output cannot be written: %s", strerror(c->failure));
}

/* ---- errors ------------------------------------------------------------------------------------------- */

int console_fail(console *c, int code, const char *format, ...) {
    va_list args;
    FILE *words = c->words ? c->words : stderr;
    console_end_line(c);
    fprintf(words, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(words, format, args);
    va_end(args);
    fputc('\n', words);
    return code;
}

int console_fail_status(console *c, vlcache_status status) {
    if (status == VLCACHE_E_CANCELLED) { /* the user knows */
        console_end_line(c);
        return exit_code(status);
    }
    const char *help = "", *message = vlcache_error_message();
    if (status == VLCACHE_E_CONTEXT_FULL) help = "; -c N sets the context, up to what the model takes";
    if (status == VLCACHE_E_NO_DEVICE) help = "; see --list-devices";
    return console_fail(c, exit_code(status), "%s%s", *message ? message : vlcache_status_text(status), help);
}

/* ---- the summary -------------------------------------------------------------------------------------- */

void console_bytes(uint64_t bytes, char text[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 999.5 && unit < 4) {
        value /= 1024.0;
        unit++;
    }
    snprintf(text, 32, "%.*f %s",
             unit == 0 || value >= 99.95 ? 0
             : value >= 9.995            ? 1
                                         : 2,
             value, units[unit]);
}

static const char *finish_note(vlcache_finish finish) {
    switch (finish) {
    case VLCACHE_FINISH_LENGTH:
        return " (ended by -n)";
    case VLCACHE_FINISH_CONTEXT:
        return " (the context is full, see -c)";
    case VLCACHE_FINISH_CANCELLED:
        return " (cancelled)";
    case VLCACHE_FINISH_STOP:
        break;
    }
    return "";
}

void console_summary(console *c, const vlcache_answer *answer) {
    const vlcache_compress_stats *kv = &answer->compress;
    char kept[32], full[32];
    if (c->quiet) return;
    console_end_line(c);
    console_bytes(kv->bytes_kept, kept);
    console_bytes(kv->bytes_full, full);
    fprintf(stderr, "%d token%s%s | first after %.0f ms", answer->n_tokens, answer->n_tokens == 1 ? "" : "s",
            finish_note(answer->finish), answer->timings.first_token);
    if (answer->timings.per_token > 0) fprintf(stderr, " | %.1f tokens/s", 1e3 / answer->timings.per_token);
    fprintf(stderr, " | KV kept %s of %s (%.1f%%)\n", kept, full,
            kv->bytes_full ? 100.0 * (double)kv->bytes_kept / (double)kv->bytes_full : 100.0);
}
