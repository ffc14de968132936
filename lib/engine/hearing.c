/*
 * hearing.c - the end of a part of a prompt: the question's rows see it, the cache shrinks to what they and
 * the part's own rows look at, and they are taken out again.
 */
#include "core/clock.h"
#include "engine/sequence.h"

/* The question's rows see the part, one by one as decoded ones do, and the plan looks on. */
static vlcache_status hear_question(vlcache_sequence *s) {
    vlci_step *step = &s->shared->step;
    const vlci_portions *p = s->portions;
    vlcache_status status =
        vlci_kv_reserve(&s->kv, 0, s->shared->pool.shape.layers, p->whole->n - p->question);
    s->kv.position = vlci_portions_behind(p);
    s->row = 0;
    for (int i = p->question; i < p->whole->n && !status; i++) {
        step->kv[0] = &s->kv;
        step->observer[0] = (vlci_observer){.user = s, .part = vlci_turn_observe};
        vlci_step_forget(step); /* its tokens are not those that were chosen */
        status = atomic_load(&s->cancel)
                     ? vlci_fail(VLCACHE_E_CANCELLED, "cancelled while reading the prompt")
                     : vlci_step_run(step, &p->whole->ids[i], 1, 1);
    }
    vlci_step_forget(step);
    return status;
}

/* Takes them out again: they stand behind what each head keeps. */
static void forget_question(vlcache_sequence *s) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    int n = s->portions->whole->n - s->portions->question;
    for (int i = 0; i < shape->layers * shape->kv_heads; i++)
        vlci_kv_cut(&s->kv, i / shape->kv_heads, i % shape->kv_heads, s->kv.list[i].rows - n);
    s->kv.length -= n;
}

/* Lets the question choose, where anything does. */
static vlcache_status compress_portion(vlcache_sequence *s, vlci_compress *plan) {
    bool hears = plan->seen != NULL;
    vlcache_status status = hears ? hear_question(s) : VLCACHE_OK;
    if (!status) status = vlci_compress_all(plan, &s->kv);
    if (!status && hears) forget_question(s);
    return status;
}

/* A part is read, and another follows: the cache shrinks. Its pages stay the pool's, for that one. */
vlcache_status vlci_turn_end_portion(vlcache_sequence *s) {
    double start = vlci_clock_ms();
    vlci_compress *plan = vlci_sequence_plan(s);
    vlcache_status status = plan ? compress_portion(s, plan) : VLCACHE_OK;
    if (!status && plan) status = vlci_portions_note(s->portions, plan);
    vlci_compress_destroy(&s->own[0]);
    s->looked = false;
    s->portions->at++;
    s->answer.timings.compress += vlci_clock_ms() - start;
    return status;
}
