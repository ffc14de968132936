/*
 * console.c - errors, the streamed answer, what else is printed, the summary; bar.c draws the bars.
 */
#include "common/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/printable.h"

/* A stream that is closed gets a place, the wrong way round, so that reading and writing still fail. */
static void hold_streams(void) {
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    static char buffer[1 << 16]; /* what fits fails, if it does, in flush(), where the cause is known */
    static bool held;
    if (held) return;
    held = true;
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd) return;
    if (!isatty(STDOUT_FILENO)) setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
}

/* A vlcache_log_fn: what the library warns of, in a line by itself. The answer on standard output stays
 * whole. */
static void warn(void *user, vlcache_log_level level, const char *line) {
    console *c = user;
    FILE *words = c->words ? c->words : stderr;
    if (level > VLCACHE_LOG_WARN) return;
    console_erase(c);
    if (c->open_line && c->sanitise && isatty(STDERR_FILENO)) fputc('\n', words);
    printable_put(words, program_invocation_short_name);
    fputs(": warning: ", words);
    printable_put(words, line);
    fputc('\n', words);
}

void console_open(console *c, bool quiet, bool stream) {
    const char *terminal = getenv("TERM");
    *c = (console){.quiet = quiet, .stream = stream};
    hold_streams();
    c->bars = !quiet && isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") != 0;
    c->sanitise = isatty(STDOUT_FILENO);
    vlcache_set_log(warn, c);
    exit_guard(true);
}

/* ---- standard output ---------------------------------------------------------------------------------- */

/* A model repeats what a picture says, and a picture may say an escape sequence. */
static void put(const console *c, const char *text) {
    if (c->sanitise)
        printable_put(stdout, text);
    else
        fputs(text, stdout);
}

bool console_flush(console *c) {
    errno = 0;
    if ((fflush(stdout) || ferror(stdout)) && !c->failure) c->failure = errno ? errno : EIO;
    return !c->failure;
}

bool console_text(void *user, const char *piece) {
    console *c = user;
    if (!c->stream || !*piece) return !c->failure;
    console_erase(c);
    put(c, piece);
    console_flush(c);
    c->open_line = piece[strlen(piece) - 1] != '\n';
    return !c->failure;
}

void console_end_line(console *c) {
    console_erase(c);
    if (c->open_line) putchar('\n');
    console_flush(c);
    c->open_line = false;
}

void console_print(console *c, const char *format, ...) {
    va_list args;
    console_erase(c);
    va_start(args, format);
    errno = 0;
    bool whole = c->sanitise ? printable_vprintf(stdout, format, args) : vprintf(format, args) >= 0;
    if ((!whole || ferror(stdout)) && !c->failure) c->failure = errno ? errno : EIO;
    va_end(args);
    console_flush(c);
}

int console_check_output(console *c) {
    if (!c->failure || c->failure == EPIPE) return EXIT_OK;
    return console_fail(c, exit_code_errno(c->failure), "standard output cannot be written: %s",
                        strerror(c->failure));
}

/* Some file systems tell of a failed write only when the file is closed. */
int console_close(console *c, int code) {
    console_end_line(c);
    int copy = dup(STDOUT_FILENO);
    if (copy >= 0 && close(copy) && !c->failure) c->failure = errno;
    exit_guard(false);
    return code ? code : console_check_output(c);
}

/* ---- errors ------------------------------------------------------------------------------------------- */

int console_fail(console *c, int code, const char *format, ...) {
    va_list args;
    FILE *words = c->words ? c->words : stderr;
    console_end_line(c);
    printable_put(words, program_invocation_short_name);
    fputs(": ", words);
    va_start(args, format);
    printable_vprintf(words, format, args);
    va_end(args);
    fputc('\n', words);
    return code;
}

void console_say(console *c, const char *format, ...) {
    va_list args;
    console_end_line(c);
    va_start(args, format);
    printable_vprintf(c->words ? c->words : stderr, format, args);
    va_end(args);
}

int console_fail_status(console *c, vlcache_status status) {
    if (status == VLCACHE_E_CANCELLED) { /* the user knows */
        console_end_line(c);
        return exit_code(status);
    }
    const char *help = "", *message = vlcache_error_message();
    if (status == VLCACHE_E_CONTEXT_FULL)
        help = c->chat ? "; /clear forgets the conversation, -c N sets the context"
                       : "; -c N sets the context, up to what the model takes";
    if (status == VLCACHE_E_NO_DEVICE) help = "; see vlcache-info --list-devices";
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

/* Rows in the host's memory. */
static void say_recall(const vlcache_recall_stats *r) {
    char held[32], back[32];
    if (!r->host_bytes) return;
    console_bytes(r->host_bytes, held);
    console_bytes(r->upload_bytes, back);
    fprintf(stderr, " | recall: %s in %s", held,
            r->saves ? "the host's memory" : "memory that is the device's too, none saved");
    if (r->upload_bytes) fprintf(stderr, ", %s brought back in %.1f ms", back, r->upload_ms);
}

/* Milliseconds from the first token to the end: compression that waited for tokens is among them. */
static double after_first(const vlcache_answer *answer) {
    return answer->timings.decode + (answer->compress.deferred > 0 ? answer->timings.compress : 0.0);
}

void console_summary(console *c, const vlcache_answer *answer, uint64_t kept, uint64_t full) {
    char of_kept[32], of_full[32];
    if (c->quiet) return;
    console_end_line(c);
    console_bytes(kept, of_kept);
    console_bytes(full, of_full);
    fprintf(stderr, "%d token%s%s | first after %.0f ms", answer->n_tokens, answer->n_tokens == 1 ? "" : "s",
            finish_note(answer->finish), answer->timings.first_token);
    double after = after_first(answer);
    if (after > 0 && answer->n_tokens > 1)
        fprintf(stderr, " | %.1f tokens/s", 1e3 * (answer->n_tokens - 1) / after);
    fprintf(stderr, " | KV kept %s of %s (%.1f%%)", of_kept, of_full,
            full ? 100.0 * (double)kept / (double)full : 100.0);
    say_recall(&answer->recall);
    fputc('\n', stderr);
}
