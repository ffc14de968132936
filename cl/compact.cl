/*
 * compact.cl - gathers the rows of some layers that stay into other pages. Rows are moved as 32-bit words: never rounded,
 * never rotated again. row_stride counts words.
 *
 *     from  | earlier | . x . . x x . . . x | decoded |          the prompt's n rows begin at keep[..].before
 *     to    | earlier | x x x x | centroids | decoded |          kmeans.cl writes the centroids
 *
 * Where held[..].kept is not 0, of the prompt only the rows of held_positions are there any more, in that order; those that
 * stay are among them. Whole pages of earlier rows are the same in both lists and stay where they are.
 *
 * compact: work-items take runs of one head's keys and values, one row's after another's, but for the centroids' rows.
 * squeeze: the same within the pages that a head has. No row moves up, so some rows are read, then written, then the next:
 * one work-group for each head, for K (0) and V (1), and for each slice of their columns. There are no centroids then, and no
 * biases among the rows.
 *
 * build: -DSQUEEZE_GROUP=1
 * build: -DSQUEEZE_GROUP=256 -DSQUEEZE_RUN=4
 * build: -DSQUEEZE_GROUP=256 -DSQUEEZE_RUN=4 -DSQUEEZE_SLICE=4
 * build: -DSQUEEZE_GROUP=256 -DSQUEEZE_RUN=4 -DSQUEEZE_SLICE=16
 */
#ifndef SQUEEZE_GROUP
#define SQUEEZE_GROUP 256 /* work-items; 1 where one is a whole core */
#endif
#ifndef SQUEEZE_RUN
#define SQUEEZE_RUN 1 /* words that a work-item moves together: 4 where rows are whole runs of 16 bytes */
#endif
#ifndef SQUEEZE_SLICE
#define SQUEEZE_SLICE 0 /* runs of a row that a work-group moves; 0: whole rows */
#endif
#if SQUEEZE_RUN == 4
typedef uint4 run_t;
#else
typedef uint run_t;
#endif
enum {
    SQUEEZE_RUNS = 8, /* that a work-item holds at a time */
    SQUEEZE_ROWS = SQUEEZE_GROUP * SQUEEZE_RUNS / (SQUEEZE_SLICE ? SQUEEZE_SLICE : 1), /* that a work-group holds, at most */
    WINDOW = SQUEEZE_ROWS * (SQUEEZE_SLICE ? 2 : 1)
};

/* Where `wanted` stands among n ascending positions. */
#define PLACE_OF(name, space)                                                                                        \
    static int name(space const int *positions, int n, int wanted) {                                                 \
        int from = 0;                                                                                                \
        while (n > 1) {                                                                                              \
            const int half_way = n / 2;                                                                              \
            if (positions[from + half_way] <= wanted) {                                                              \
                from += half_way;                                                                                    \
                n -= half_way;                                                                                       \
            } else                                                                                                   \
                n = half_way;                                                                                        \
        }                                                                                                            \
        return from;                                                                                                 \
    }
PLACE_OF(place_of, __global)

/* What a head holds, and the row that comes to row r of what it keeps; -1: none does. */
typedef struct {
    int first, kept, centroids, last; /* rows: earlier ones, then those kept, ... up to */
    int there, packed;                /* rows of the prompt there are; whether they are held positions */
    __global const int *positions, *held;
} plan_t;

static plan_t find_plan(__global const vlci_keep *keep, __global const vlci_keep *held, uint at, int n, int decoded,
                        __global const int *positions, __global const int *held_positions) {
    const vlci_keep own = keep[at], old = held[at];
    plan_t p;
    p.first = own.before;
    p.kept = own.kept;
    p.centroids = own.centroids;
    p.last = own.before + own.kept + own.centroids + decoded;
    p.packed = old.kept != 0;
    p.there = p.packed ? old.kept : n;
    p.positions = positions + own.first;
    p.held = held_positions + (p.packed ? old.first : 0);
    return p;
}

/* Of the held positions, the i-th that stays is the i-th, or later by no more than those that go. */
static int source_of(const plan_t *p, int r) {
    if (r < p->first) return r;
    if (r < p->first + p->kept) {
        const int i = r - p->first, position = p->positions[i];
        return p->first + (p->packed ? i + place_of(p->held + i, p->there - p->kept + 1, position) : position);
    }
    const int decoded = r - (p->first + p->kept + p->centroids);
    return decoded < 0 ? -1 : p->first + p->there + decoded;
}

__kernel void compact(KV_POOL_PARAMS, __global const vlci_kv_head *to_of, __global const vlci_keep *keep,
                      __global const vlci_keep *held, uint keep_at, int n, int decoded, __global const int *positions,
                      __global const int *held_positions) {
    const int head = get_group_id(1);
    const kv_view from = kv_nth(KV_POOL_PASS, head), to = kv_of(k, v, bias, to_of + head, table, row_stride);
    const plan_t p = find_plan(keep, held, keep_at + head, n, decoded, positions, held_positions);
    const int runs = (int)row_stride / SQUEEZE_RUN, page = p.first / VLCI_KV_PAGE * VLCI_KV_PAGE, kept = p.first + p.kept;
    for (int e = get_global_id(0); e < (p.last - p.centroids - page) * 2 * runs; e += get_global_size(0)) {
        const int before = page + e / (2 * runs), run = e % (2 * runs), r = before < kept ? before : before + p.centroids;
        const int source = source_of(&p, r), d = run % runs;
        const size_t at = kv_at(&from, source) / SQUEEZE_RUN + d, target = kv_at(&to, r) / SQUEEZE_RUN + d;
        __global run_t *pool = (__global run_t *)(run < runs ? k : v);
        pool[target] = pool[at];
        if (bias && run == 0) bias[kv_row(&to, r)] = r < p.first ? kv_bias(&from, r) : 0.0f;
    }
}

#if SQUEEZE_GROUP > 1
PLACE_OF(place_near, __local)

/* Where in the pool the n rows lie that come to row r and those behind it. Of held positions those from *from on are near, which
 * becomes where the next rows' are; a barrier before and behind. */
WITH_LOCAL void find_sources(const plan_t *p, const kv_view *rows, int r, int n, __local int *from, __local int *window,
                             __local uint *sources) {
    const int lane = get_local_id(0), before = *from;
    const int near = r - p->first < p->kept ? min((int)WINDOW, p->there - before) : 0; /* where none stays, none are told */
    if (p->packed)
        for (int i = lane; i < near; i += SQUEEZE_GROUP) window[i] = p->held[before + i];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = lane; i < n; i += SQUEEZE_GROUP) {
        const int kept = r + i - p->first, position = kept < p->kept ? p->positions[kept] : 0;
        int source = kept < p->kept ? position : kept - p->kept - p->centroids + p->there;
        if (p->packed && kept < p->kept) {
            const bool is_near = near > 0 && position <= window[near - 1];
            source = is_near ? before + place_near(window, near, position)
                             : kept + place_of(p->held + kept, p->there - p->kept + 1, position);
            if (i == n - 1) *from = source + 1;
        }
        sources[i] = (uint)kv_row(rows, p->first + source);
    }
}
#endif

__kernel __attribute__((reqd_work_group_size(SQUEEZE_GROUP, 1, 1))) void
squeeze(KV_POOL_PARAMS, __global const vlci_keep *keep, __global const vlci_keep *held, uint keep_at, int n, int decoded,
        __global const int *positions, __global const int *held_positions) {
    const int head = get_group_id(0), lane = get_local_id(0), words = (int)row_stride;
    const kv_view rows = kv_nth(KV_POOL_PASS, head);
    const plan_t p = find_plan(keep, held, keep_at + head, n, decoded, positions, held_positions);
    __global uint *data = (__global uint *)(get_group_id(1) ? rows.v : rows.k);
    if (p.there == p.kept) return; /* nothing moves */
#if SQUEEZE_GROUP == 1
    for (int r = p.first; r < p.last; r++) {
        const size_t at = kv_at(&rows, source_of(&p, r)), target = kv_at(&rows, r);
        for (int d = 0; d < words; d++) data[target + d] = data[at + d];
    }
#else
    const int runs = SQUEEZE_SLICE ? SQUEEZE_SLICE : words / SQUEEZE_RUN, first = (int)get_group_id(2) * runs;
    const int at_once = max(1, SQUEEZE_GROUP * SQUEEZE_RUNS / runs);
    __local uint sources[2 * SQUEEZE_ROWS];
    __local int window[WINDOW], from;
    __global run_t *pool = (__global run_t *)data;
    if (lane == 0) from = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    find_sources(&p, &rows, p.first, min(at_once, p.last - p.first), &from, window, sources);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int r = p.first, half_at = 0; r < p.last; r += at_once, half_at = SQUEEZE_ROWS - half_at) {
        const int until = min(at_once, p.last - r) * runs, next = r + at_once;
        run_t held_runs[SQUEEZE_RUNS];
#pragma unroll
        for (int i = 0; i < SQUEEZE_RUNS; i++) {
            const int e = lane + i * SQUEEZE_GROUP;
            if (e < until) held_runs[i] = pool[(size_t)sources[half_at + e / runs] * (words / SQUEEZE_RUN) + first + e % runs];
        }
        /* meanwhile; what comes next is read where nothing is written now */
        if (next < p.last)
            find_sources(&p, &rows, next, min(at_once, p.last - next), &from, window, sources + SQUEEZE_ROWS - half_at);
        barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE);
#pragma unroll
        for (int i = 0; i < SQUEEZE_RUNS; i++) {
            const int e = lane + i * SQUEEZE_GROUP;
            if (e < until) pool[kv_at(&rows, r + e / runs) / SQUEEZE_RUN + first + e % runs] = held_runs[i];
        }
    }
#endif
}
