/*
 * chat.c - reads lines, obeys commands, asks the rest. The history is the session's KV cache.
 */
#include "run/chat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/interrupt.h"

static const char commands[] =
    "/image FILE  show a picture with the next question\n"
    "/video FILE  show a video with it\n"
    "/frames DIR  show a folder of frames with it, as a video\n"
    "/clear       forget the conversation\n"
    "/help        this text\n"
    "/quit        end\n";

/* The next line without its end, `*bytes` of it; false at the end of input, when Ctrl-C came before one
 * waited for it, and where there may be more that cannot be read: `*failure` says why. */
static bool read_line(bool terminal, char **line, size_t *room, size_t *bytes, int *failure) {
    if (terminal) fputs("> ", stderr);
    interrupt_ends(true);
    bool waits = !interrupt_seen();
    ssize_t length = waits ? getline(line, room, stdin) : -1;
    if (waits && length < 0 && !feof(stdin)) *failure = errno;
    interrupt_ends(false);
    if (length < 0 && terminal) fputc('\n', stderr);
    if (length < 0) return false;
    while (length > 0 && ((*line)[length - 1] == '\n' || (*line)[length - 1] == '\r')) (*line)[--length] = 0;
    *bytes = (size_t)length;
    return true;
}

/* What follows a command's name, spaces around it and quotes taken off; NULL where the line is another
 * command. */
static char *argument_of(char *line, const char *name) {
    size_t length = strlen(name);
    if (strncmp(line, name, length) || (line[length] && !strchr(" \t", line[length]))) return NULL;
    char *text = line + length + strspn(line + length, " \t"), *end = text + strlen(text);
    while (end > text && strchr(" \t", end[-1])) *--end = 0;
    bool quoted = end - text >= 2 && end[-1] == *text && strchr("\"'", *text);
    if (quoted) *--end = 0;
    return quoted ? text + 1 : text;
}

static int show_picture(run *r, const char *path) {
    if (!*path) return console_fail(&r->console, EXIT_USAGE, "/image: needs a file: /image FILE");
    if (strcmp(path, "-") == 0)
        return console_fail(&r->console, EXIT_USAGE, "/image -: standard input is the chat: name a file");
    int code = pictures_add(&r->pictures, path, &r->console);
    if (code || r->console.quiet) return code;
    int width, height;
    vlcache_image_size(r->pictures.items[r->pictures.n - 1], &width, &height);
    console_say(&r->console, "%s: %d x %d pixels\n", path, width, height);
    return EXIT_OK;
}

static int show_video(run *r, const char *path, bool frames) {
    vlcache_video_info info;
    double fps = !frames ? 0 : r->options.fps > 0 ? r->options.fps : DEFAULT_FPS;
    if (!*path)
        return console_fail(&r->console, EXIT_USAGE, "%s",
                            frames ? "/frames: needs a folder: /frames DIR"
                                   : "/video: needs a file: /video FILE");
    int code = videos_add(&r->videos, path, fps, &r->console);
    if (code || r->console.quiet) return code;
    vlcache_video_describe(r->videos.items[r->videos.n - 1], &info);
    console_say(&r->console, "%s: %d x %d pixels, %d frames, %.1f seconds\n", path, info.width, info.height,
                info.frames, info.seconds);
    return EXIT_OK;
}

static int obey(run *r, char *line, bool *quit) {
    const char *path = argument_of(line, "/image");
    if (path) return show_picture(r, path);
    if ((path = argument_of(line, "/video"))) return show_video(r, path, false);
    if ((path = argument_of(line, "/frames"))) return show_video(r, path, true);
    if (argument_of(line, "/quit") || argument_of(line, "/exit")) {
        *quit = true;
    } else if (argument_of(line, "/clear")) {
        vlcache_session_clear(r->session);
        pictures_clear(&r->pictures);
        videos_clear(&r->videos);
    } else if (argument_of(line, "/help")) {
        fputs(commands, stderr);
    } else {
        return console_fail(&r->console, EXIT_USAGE, "%s: no such command; see /help", line);
    }
    return EXIT_OK;
}

/* A question that failed keeps its pictures for the next try. */
static int ask(run *r, const char *line) {
    const vlcache_answer *answer = NULL;
    int code = turn_ask(r, line, &answer);
    if (answer) pictures_clear(&r->pictures);
    if (answer) videos_clear(&r->videos);
    return code;
}

/* A command, a question, or nothing. What follows a zero byte would be lost in silence. */
static int take_line(run *r, char *line, size_t bytes, bool *quit) {
    size_t blank = strspn(line, " \t");
    if (strlen(line) != bytes)
        return console_fail(&r->console, EXIT_USAGE, "a line with a zero byte is no text; it was not asked");
    if (!line[blank]) return EXIT_OK;
    return line[blank] == '/' ? obey(r, line + blank, quit) : ask(r, line);
}

int chat(run *r) {
    bool terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO), quit = false;
    char *line = NULL;
    size_t room = 0, bytes = 0;
    int last = EXIT_OK, failure = 0;
    r->console.chat = true;
    if (terminal && !r->console.quiet) fputs("A question a line; /help lists the commands.\n", stderr);
    while (!quit && read_line(terminal, &line, &room, &bytes, &failure)) {
        int code = take_line(r, line, bytes, &quit);
        if (code) last = code;
        if (r->console.failure || (code == EXIT_INTERRUPT && !terminal)) break;
    }
    free(line);
    if (interrupt_seen()) return EXIT_INTERRUPT;
    if (failure)
        return console_fail(&r->console, exit_code_errno(failure), "standard input cannot be read: %s",
                            strerror(failure));
    return terminal && !r->console.failure ? EXIT_OK : last;
}
