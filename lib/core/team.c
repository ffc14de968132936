/*
 * team.c - threads that take the items of a list, each the next that nobody has begun.
 *
 *     run: list = (n, task) --> wake all --> every member: next++ until n --> the last wakes the caller
 */
#include "core/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/alloc.h"

typedef struct member {
    vlci_team *team;
    int number;
    pthread_t thread;
} member;

struct vlci_team {
    pthread_mutex_t lock;
    pthread_cond_t begun, ended;
    unsigned lists; /* begun so far: a member that has seen fewer has one to do */
    int busy;       /* members that have not ended this one */
    bool over;
    vlci_team_task task;
    void *user;
    size_t n;
    atomic_size_t next;         /* item that nobody has begun */
    size_t failed;              /* the lowest item that failed; n: none did */
    const vlcache_error *error; /* of the thread that did it, which does nothing more of this list */
    int size;
    member members[VLCI_TEAM_MOST]; /* the first has no thread: it is the caller */
};

int vlci_processors(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    return n < 1 ? 1 : (int)n;
}

static void note_failure(vlci_team *team, size_t item) {
    pthread_mutex_lock(&team->lock);
    if (item < team->failed) {
        team->failed = item;
        team->error = vlcache_last_error();
    }
    pthread_mutex_unlock(&team->lock);
}

static void take_items(vlci_team *team, int number) {
    for (size_t item; (item = atomic_fetch_add(&team->next, 1)) < team->n;)
        if (team->task(team->user, item, number)) {
            note_failure(team, item);
            atomic_store(&team->next, team->n);
            return;
        }
}

static void *serve(void *user) {
    const member *self = user;
    vlci_team *team = self->team;
    unsigned seen = 0;
    pthread_mutex_lock(&team->lock);
    for (;;) {
        while (team->lists == seen && !team->over) pthread_cond_wait(&team->begun, &team->lock);
        if (team->over) break;
        seen = team->lists;
        pthread_mutex_unlock(&team->lock);
        take_items(team, self->number);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0) pthread_cond_signal(&team->ended);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

/* Threads for all but the caller; signals stay with the program's own. */
static void start_members(vlci_team *team, int members) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (team->size = 1; team->size < members; team->size++) {
        member *m = &team->members[team->size];
        *m = (member){.team = team, .number = team->size};
        if (pthread_create(&m->thread, NULL, serve, m)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

vlcache_status vlci_team_create(int members, vlci_team **out) {
    *out = vlci_calloc(1, sizeof **out);
    if (!*out) return vlci_fail_memory("team of threads");
    pthread_mutex_init(&(*out)->lock, NULL);
    pthread_cond_init(&(*out)->begun, NULL);
    pthread_cond_init(&(*out)->ended, NULL);
    start_members(*out, members < VLCI_TEAM_MOST ? members : VLCI_TEAM_MOST);
    return VLCACHE_OK;
}

int vlci_team_size(const vlci_team *team) {
    return team->size;
}

vlcache_status vlci_team_run(vlci_team *team, size_t n, vlci_team_task task, void *user) {
    bool together = team->size > 1 && n > 1;
    pthread_mutex_lock(&team->lock);
    team->task = task;
    team->user = user;
    team->n = team->failed = n;
    atomic_store(&team->next, 0);
    team->busy = together ? team->size - 1 : 0;
    team->lists += together;
    if (together) pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->lock);
    take_items(team, 0);
    pthread_mutex_lock(&team->lock);
    while (team->busy) pthread_cond_wait(&team->ended, &team->lock);
    pthread_mutex_unlock(&team->lock);
    if (team->failed == n) return VLCACHE_OK;
    const vlcache_error *e = team->error;
    return vlci_fail_field(e->status, e->file, e->field, e->value, e->hint, "%s", e->message);
}

void vlci_team_destroy(vlci_team **handle) {
    if (!handle || !*handle) return;
    vlci_team *team = *handle;
    pthread_mutex_lock(&team->lock);
    team->over = true;
    pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->lock);
    for (int i = 1; i < team->size; i++) pthread_join(team->members[i].thread, NULL);
    pthread_cond_destroy(&team->begun);
    pthread_cond_destroy(&team->ended);
    pthread_mutex_destroy(&team->lock);
    vlci_free(team);
    *handle = NULL;
}
