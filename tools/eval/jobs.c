/*
 * jobs.c - beginning workers, listening to all of them, and ending them.
 */
#include "eval/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/exit.h"
#include "common/interrupt.h"
#include "eval/ask.h"
#include "eval/worker.h"

enum { PATIENCE_MS = 100, READ_BYTES = 1 << 16 };

/* A worker, seen from here. */
typedef struct job {
    pid_t pid;
    int pipe;   /* -1: it has ended */
    char *text; /* what has come and is no whole message yet */
    size_t bytes, room;
} job;

/* All workers, and what has come of them. */
typedef struct crew {
    work work;
    results *results;
    console *console;
    job jobs[JOBS_MAX];
    size_t n, running;
    size_t answers, answers_total;
    double start;       /* when the first model was loaded; 0: none is */
    int code;           /* the first thing that ended the run: what follows from it is not told */
    bool ended, broken; /* the workers were; the results cannot be written */
} crew;

/* ---- processes ---------------------------------------------------------------------------------------- */

/* fork(), with a pipe from the child (0) to here. The child does not outlive this process, and leaves Ctrl-C,
 * which a terminal sends to both, to it. */
static pid_t begin_process(int *pipe_end) {
    int ends[2];
    pid_t here = getpid();
    if (pipe2(ends, O_CLOEXEC)) return -1;
    pid_t pid = fork();
    *pipe_end = ends[pid == 0];
    close(ends[pid != 0]);
    if (pid < 0) close(*pipe_end);
    if (pid) return pid;
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != here) _exit(EXIT_INTERRUPT); /* it ended before the line above */
    return 0;
}

static int end_process(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

/* Asks the device for its name in a process that ends with it. */
static int name_in_process(const options *o, console *c, char *name, size_t room) {
    int end;
    ssize_t got;
    size_t bytes = 0;
    pid_t pid = begin_process(&end);
    if (pid < 0) return console_fail(c, EXIT_MEMORY, "a job cannot be begun: %s", strerror(errno));
    if (pid == 0) {
        vlcache_set_log(NULL, NULL); /* whoever uses the device in earnest will say it */
        int code = asker_device_name(o, c, name, room);
        _exit(write(end, name, strlen(name)) < 0 ? EXIT_DEVICE : code);
    }
    while (bytes < room - 1 &&
           ((got = read(end, name + bytes, room - 1 - bytes)) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0) bytes += (size_t)got;
    name[bytes] = 0;
    close(end);
    int status = end_process(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_DEVICE;
}

int jobs_device_name(const options *o, console *c, char *name, size_t room) {
    *name = 0;
    return o->jobs == 1 ? asker_device_name(o, c, name, room) : name_in_process(o, c, name, room);
}

/* ---- workers ------------------------------------------------------------------------------------------ */

/* Not exit(): its handlers and open files are those of the process that goes on. */
static _Noreturn void work_here(const crew *c, int end) {
    for (size_t i = 0; i < c->n; i++) close(c->jobs[i].pipe);
    _exit(worker_run(&c->work, end));
}

static bool begin_job(crew *c) {
    int end;
    pid_t pid = begin_process(&end);
    if (pid < 0) return false;
    if (pid == 0) work_here(c, end);
    c->jobs[c->n++] = (job){.pid = pid, .pipe = end};
    c->running++;
    return true;
}

/* No more of them than questions that are open. */
static void begin_jobs(crew *c) {
    size_t open = c->results->n - c->results->done, most = (size_t)c->work.options->jobs;
    while (c->n < most && c->n < open && !c->code) {
        if (begin_job(c)) continue;
        c->code = console_fail(c->console, EXIT_MEMORY, "a job cannot be begun: %s", strerror(errno));
    }
}

/* At once: what they were at is lost in any case, what they have finished is in the pipes. */
static void end_jobs(crew *c) {
    for (size_t i = 0; i < c->n && !c->ended; i++)
        if (c->jobs[i].pipe >= 0) kill(c->jobs[i].pid, SIGKILL);
    c->ended = true;
}

/* ---- listening ---------------------------------------------------------------------------------------- */

static void add_record(crew *c, size_t index, const char *text, size_t bytes) {
    if (c->broken) return;
    int code = results_add(c->results, index, json_loadb(text, bytes, 0, NULL), c->console);
    c->broken = code != EXIT_OK;
    if (!c->code) c->code = code;
    c->answers += c->work.options->variants.n;
}

/* What is said: the first failure; of the warnings of all that open the same model, those of one. */
static void take_message(crew *c, const message *m, const char *payload) {
    bool first = c->start == 0.0, opening = !m->code && !m->record;
    if (first) c->start = clock_seconds();
    if (m->said && (m->code ? !c->code : !opening || first)) {
        console_erase(c->console);
        fwrite(payload, 1, m->said, stderr);
    }
    if (!c->code) c->code = m->code;
    if (m->record) add_record(c, m->index, payload + m->said, m->record);
}

/* Takes the whole messages out of what has come. */
static void take_messages(crew *c, job *j) {
    message m;
    size_t at = 0;
    while (j->bytes - at >= sizeof m) {
        memcpy(&m, j->text + at, sizeof m);
        if (j->bytes - at - sizeof m < m.said + m.record) break;
        take_message(c, &m, j->text + at + sizeof m);
        at += sizeof m + m.said + m.record;
    }
    if (at) memmove(j->text, j->text + at, j->bytes - at);
    j->bytes -= at;
}

/* One that ends before it has asked everything has said why; or it could not. */
static void see_off(crew *c, job *j) {
    close(j->pipe);
    j->pipe = -1;
    free(j->text);
    j->text = NULL;
    int status = end_process(j->pid);
    c->running--;
    if (c->code) return;
    if (WIFSIGNALED(status))
        c->code = console_fail(c->console, EXIT_DEVICE, "a job was ended by signal %d (%s)", WTERMSIG(status),
                               strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == EXIT_MEMORY)
        c->code = EXIT_MEMORY; /* it has said so itself */
    else if (WEXITSTATUS(status))
        c->code = console_fail(c->console, EXIT_DEVICE, "a job ended with exit code %d", WEXITSTATUS(status));
}

static bool make_room(job *j) {
    if (j->room - j->bytes >= READ_BYTES) return true;
    size_t room = 2 * j->room + READ_BYTES;
    char *text = realloc(j->text, room);
    if (!text) return false;
    j->text = text;
    j->room = room;
    return true;
}

static void hear(crew *c, job *j) {
    if (!make_room(j)) {
        if (!c->code) c->code = console_fail(c->console, EXIT_MEMORY, "out of host memory");
        kill(j->pid, SIGKILL);
        see_off(c, j);
        return;
    }
    ssize_t got = read(j->pipe, j->text + j->bytes, READ_BYTES);
    if (got < 0 && errno == EINTR) return;
    if (got <= 0) {
        see_off(c, j);
        return;
    }
    j->bytes += (size_t)got;
    take_messages(c, j);
}

/* Comes back now and then even where nobody says anything: Ctrl-C and the bar do not wait. */
static void listen_once(crew *c) {
    struct pollfd ends[JOBS_MAX];
    for (size_t i = 0; i < c->n; i++) ends[i] = (struct pollfd){c->jobs[i].pipe, POLLIN, 0};
    if (poll(ends, c->n, PATIENCE_MS) <= 0) return;
    for (size_t i = 0; i < c->n; i++)
        if (ends[i].revents) hear(c, &c->jobs[i]);
}

static void listen_to_all(crew *c) {
    while (c->running) {
        if (!c->code && interrupt_seen()) c->code = EXIT_INTERRUPT;
        if (c->code) end_jobs(c);
        if (!c->code) asker_progress(c->console, c->answers, c->answers_total, c->start);
        listen_once(c);
    }
    if (!c->code && c->results->done < c->results->n)
        c->code = console_fail(c->console, EXIT_DEVICE, "a job ended before its questions were answered");
}

/* ---- asking ------------------------------------------------------------------------------------------- */

static int ask_together(crew *c) {
    atomic_size_t *next = mmap(NULL, sizeof *next, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (next == MAP_FAILED) return console_fail(c->console, EXIT_MEMORY, "out of host memory");
    atomic_init(next, 0);
    c->work.next = next;
    begin_jobs(c);
    listen_to_all(c);
    munmap(next, sizeof *next);
    return c->code;
}

static int ask_alone(const crew *c) {
    asker a;
    results *r = c->results;
    int code = asker_open(&a, c->work.options, c->work.folder, c->console);
    a.answers_total = c->answers_total;
    for (size_t i = 0; i < r->n && !code; i++) {
        json_t *record = NULL;
        if (r->records[i]) continue;
        code = asker_ask(&a, c->work.data, i, &record);
        if (!code) code = results_add(r, i, record, c->console);
    }
    asker_close(&a);
    return code;
}

int jobs_ask(const options *o, const char *folder, const data *d, results *r, console *c) {
    if (r->done == r->n) return EXIT_OK;
    crew all = {
        .work = {.options = o, .folder = folder, .data = d, .results = r}, .results = r, .console = c};
    all.answers_total = (r->n - r->done) * o->variants.n;
    int code = o->jobs == 1 ? ask_alone(&all) : ask_together(&all);
    int kept = results_sync(r, c);
    console_erase(c);
    return code ? code : kept;
}
