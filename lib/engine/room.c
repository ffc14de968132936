/*
 * room.c - how many pages of the cache a turn may come to hold, and when layers shrink while it is read.
 *
 *     prompt, pictures, recipe -> pages while reading, pages while answering -> what the pool is asked for
 */
#include "engine/sequence.h"

/* ROOM: rows that a cache grows by while it answers. */
enum { ROOM = 32, SMALL_SHARE = 64 /* a sixty-fourth */ };

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* Rows that the answer may come to need. */
static int answer_rows(const vlcache_sequence *s, int length) {
    int left = s->context - length;
    return s->how.max_tokens < left ? s->how.max_tokens : left;
}

bool vlci_turn_may_compress(const vlcache_sequence *s) {
    return s->prompt.visual || !s->shared->model->config.eyes || (s->recalls && s->past.n_visual);
}

/* Rows of the prompt, and those of earlier turns that are chosen among again. */
static int candidates(const vlcache_sequence *s) {
    return (s->recalls ? s->kv.length : 0) + s->prompt.n;
}

static bool compresses(const vlcache_sequence *s) {
    return vlci_turn_may_compress(s) && vlci_compress_shrinks(&s->recipe);
}

/* Rows that are read before any go. */
static int read_at_once(const vlcache_sequence *s) {
    const vlci_portions *p = s->portions;
    return p && compresses(s) ? p->longest + p->whole->n - p->question : s->prompt.n;
}

/* Whether the prompt's layers are all so small, beside the device's memory, that they may be there in full at
 * a time: shrinking each as it is read, and earlier ones with it, costs some launches a layer. */
static bool is_small(const vlcache_sequence *s) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    uint64_t row = 2 * (uint64_t)shape->head_dim * vlci_dtype_bytes(shape->dtype),
             all = row * (uint64_t)shape->kv_heads * (uint64_t)shape->layers * (uint64_t)read_at_once(s);
    return s->shared->pool.elastic && all <= s->shared->model->device->caps.info.global_memory / SMALL_SHARE;
}

/* With recall they do however small they are, but where that would have all rows kept in few bits of which
 * fewer in more answer better. */
bool vlci_turn_by_layer(const vlcache_sequence *s) {
    return s->plans == s->own && !s->portions && compresses(s) && vlci_compress_by_layer(s->recipes) &&
           !s->prompt.n_sights && (s->recalls ? !s->recipe.votes_yield : !is_small(s));
}

/* Those that do not: with recall they leave and come back. */
bool vlci_turn_again(const vlcache_sequence *s) {
    return s->recalls && s->plans == s->own && !s->portions && compresses(s) && !vlci_turn_by_layer(s) &&
           !s->prompt.n_sights;
}

/* No more than one layer is there in full. */
static bool singly(const vlcache_sequence *s) {
    return vlci_turn_by_layer(s) || vlci_turn_again(s);
}

/* Pages that all lists take when `rows` more rows are spread over them, `loose` pages of each half empty or
 * shared. */
static int64_t spread_pages(const vlcache_sequence *s, int64_t rows, int loose) {
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    return shape->kv_heads * ((rows + VLCI_KV_PAGE - 1) / VLCI_KV_PAGE + (int64_t)loose * shape->layers);
}

/* Rows that all heads of all layers keep in pages at most, where the cache is compressed. */
static int64_t kept_rows(const vlcache_sequence *s) {
    int layers = s->shared->pool.shape.layers, n = candidates(s);
    if (s->recipe.coded) return (int64_t)layers * (vlci_coding_wanted(&s->recipe) ? 1 : n);
    const vlci_kv_shape *shape = &s->shared->pool.shape;
    vlci_recipe rows = vlci_quantise_rows(&s->recipe, shape->head_dim, shape->dtype);
    return s->portions ? vlci_portions_rows_bound(s->portions, layers)
                       : vlci_compress_rows_bound(&rows, n, layers);
}

/* Beyond those that are held, as long as they are; rows of the store come into new ones. */
static int more_pages(const vlcache_sequence *s, int layer, int layers, int rows) {
    if (!s->kv.store) return vlci_kv_marked_pages(&s->kv, layer, layers, rows);
    return layers * s->shared->pool.shape.kv_heads * vlci_kv_pages(s->kv.length + rows);
}

/* While the prompt is read: all of it, or its largest layer beside what the others keep. */
static int64_t reading_pages(const vlcache_sequence *s, int64_t kept, int until) {
    int layers = s->shared->pool.shape.layers, n = read_at_once(s), most = 0;
    if (!singly(s)) return (s->portions ? kept : 0) + more_pages(s, 0, layers, n + until);
    if (vlci_turn_again(s)) kept += spread_pages(s, (int64_t)layers * until, 1); /* behind what is kept */
    for (int l = 0; l < layers; l++) {
        int pages = more_pages(s, l, 1, vlci_turn_again(s) ? n + until : n);
        if (pages > most) most = pages;
    }
    return kept + most;
}

/* Rows that are decoded before the last layer is compressed, where it is. */
static int deferred_rows(const vlcache_sequence *s) {
    if (!s->recipe.defer) return 0;
    return s->recipe.defer + vlci_compress_calls(&s->shared->compress.shape, &s->recipe, s->prompt.n) - 1;
}

/* The same, or all when none is. */
static int full_rows(const vlcache_sequence *s) {
    int answer = answer_rows(s, s->kv.length + s->prompt.n);
    if (!compresses(s)) return answer;
    return deferred_rows(s) < answer ? deferred_rows(s) : answer;
}

/* Pages that what is kept is copied to while what there was is still there. */
static int64_t moved_pages(const vlcache_sequence *s) {
    bool moves = compresses(s) && !singly(s) && s->recipe.centroids > 0.0 && !s->recipe.coded;
    return moves ? spread_pages(s, kept_rows(s), 2) : 0;
}

/* Of layers of cross-attention: what all keep of the prompt's pictures, and the most that one of them sees.
 */
static int64_t picture_pages(const vlcache_sequence *s) {
    if (!s->prompt.n_sights) return 0;
    int most = vlci_reading_most_seen(&s->prompt, vlci_kv_is_filled(&s->kv));
    return vlci_kv_refill_pages(&s->kv, vlci_sequence_text(s)->crosses, s->prompt.sighted) +
           vlci_kv_refill_pages(&s->kv, 1, most);
}

/* Rows that may age: exact ones, but not of a prompt that is compressed. 0: they never do. */
static int aging_rows(const vlcache_sequence *s) {
    int n = s->prompt.n, before = 0, age = s->recipe.age;
    if (!age || s->prompt.n_sights || !(compresses(s) || s->kv.quants)) return 0;
    if (!s->kv.store)
        for (int l = 0; l < s->shared->pool.shape.layers; l++)
            before = larger(before, vlci_kv_most_rows(&s->kv, l));
    int rows = before + answer_rows(s, s->kv.length + n) + (compresses(s) ? 0 : n);
    return rows >= 2 * age ? rows : 0;
}

/* Pages that rows which are too young to age are copied to, beside those that they leave. */
static int64_t aging_pages(const vlcache_sequence *s) {
    return aging_rows(s) ? spread_pages(s, 0, vlci_kv_pages(2 * s->recipe.age)) : 0;
}

int64_t vlci_turn_pages(const vlcache_sequence *s) {
    int layers = s->shared->pool.shape.layers, n = s->prompt.n, answer = answer_rows(s, s->kv.length + n);
    int dropped = s->kv.store ? vlci_kv_own_pages(&s->kv) : 0; /* as soon as the turn begins */
    if (!compresses(s) || s->prompt.n_sights) /* what replaces pictures is no more than one layer sees */
        return more_pages(s, 0, layers, n + answer) + picture_pages(s) + aging_pages(s) - dropped;
    int64_t kept = spread_pages(s, kept_rows(s), 2);
    int64_t reading = reading_pages(s, kept, full_rows(s)),
            growth = spread_pages(s, (int64_t)layers * answer, 1) + aging_pages(s);
    if (!singly(s)) reading += kept; /* what is kept is copied from what there was */
    return (reading > kept + growth ? reading : kept + growth) - dropped;
}

/* Of the prompt. */
static uint64_t stored(const vlcache_sequence *s) {
    const vlci_compress_shape *shape = &s->shared->compress.shape;
    if (!compresses(s) || s->prompt.n_sights || s->portions) return 0;
    const vlci_recipe recipe = vlci_turn_recipe(s, 0);
    int visual = s->prompt.visual + (s->recalls ? s->past.n_visual : 0);
    if (vlci_coding_wanted(&recipe))
        return vlci_coding_bound(shape, &recipe, candidates(s), visual, vlci_turn_by_layer(s));
    return vlci_quantise_wanted(&recipe) ? vlci_quantise_bound(&recipe, shape, candidates(s)) : 0;
}

uint64_t vlci_turn_aging(const vlcache_sequence *s) {
    int rows = aging_rows(s);
    return rows ? vlci_quantise_aging_bound(&s->recipe, &s->shared->compress.shape, rows) : 0;
}

uint64_t vlci_turn_few(const vlcache_sequence *s) {
    return stored(s) + vlci_turn_aging(s);
}

uint64_t vlci_turn_few_left(const vlcache_sequence *s) {
    const vlci_compress *plan = vlci_sequence_plan(s);
    if (!plan || plan->applied) return s->aging;
    uint64_t made = plan->coding       ? vlci_coding_counted(plan->coding)
                    : plan->quantising ? vlci_quants_sum(&plan->quantising->bytes)
                                       : 0;
    return s->aging + (s->few > made ? s->few - made : 0);
}

int64_t vlci_turn_growth_pages(const vlcache_sequence *s) {
    return spread_pages(s, (int64_t)s->shared->pool.shape.layers * answer_rows(s, s->kv.length), 1);
}

int64_t vlci_turn_elastic_pages(const vlcache_sequence *s) {
    int until = full_rows(s), most = compresses(s) ? INT32_MAX : ROOM;
    return reading_pages(s, compresses(s) ? spread_pages(s, kept_rows(s), 1) : 0,
                         until < most ? until : most) +
           moved_pages(s) + picture_pages(s);
}

vlcache_status vlci_turn_give_back(vlcache_sequence *s) {
    int rows = answer_rows(s, s->kv.length);
    vlcache_status status = VLCACHE_OK;
    if (!s->shared->pool.elastic) return status;
    if (rows > 0)
        status = vlci_kv_reserve(&s->kv, 0, s->shared->pool.shape.layers, rows < ROOM ? rows : ROOM);
    s->shared->frees = true;
    return status;
}

/* Before it is compressed no more than the pool began with: to grow it would copy all of the cache. */
vlcache_status vlci_turn_make_room(vlcache_sequence *s) {
    int done = (int)s->reply.n - 1, rows = answer_rows(s, s->kv.length - done) - done;
    int most = s->waiting ? deferred_rows(s) - done : ROOM;
    if (vlci_kv_room(&s->kv) > 0) return VLCACHE_OK;
    if (rows > most) rows = most;
    return vlci_kv_reserve(&s->kv, 0, s->shared->pool.shape.layers, rows < 1 ? 1 : rows);
}
