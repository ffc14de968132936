/*
 * question.c - lays a prompt out to a number of rows.
 */
#include "bench/question.h"

#include <stdlib.h>

#include "common/exit.h"
#include "common/flag.h"
#include "common/memory.h"

enum { QUESTION = 32, FIRST_ID = 3 /* behind what vocabularies begin with: pad, begin, end */ };

/* Never the mark of a picture. */
static int32_t random_id(const bench *b, uint32_t *state) {
    int first = b->info.vocabulary > FIRST_ID ? FIRST_ID : 0, range = b->info.vocabulary - first;
    *state = *state * 1664525u + 1013904223u;
    int id = first + (int)((*state >> 8) % (uint32_t)range);
    if (id != b->picture_token) return id;
    return id > first ? id - 1 : id + 1;
}

/* Rows of each of n pictures. */
static int rows_of(const bench *b, int n) {
    return n > 1 ? b->picture_tokens_among : b->picture_tokens;
}

/* As many as leave room for a question; a picture of 0 rows is none. Of those that lie beside the prompt the
 * last one is seen: one. */
static int most_pictures(const bench *b, int tokens) {
    int room = tokens > QUESTION ? tokens - QUESTION : 0;
    int among = rows_of(b, 2) ? room / rows_of(b, 2) : 0;
    if (among > 1 && !b->info.cross_layers) return among > 4096 ? 4096 : among;
    return rows_of(b, 1) && room >= rows_of(b, 1) ? 1 : 0;
}

/* How many pictures; -1, told: so many do not fit. */
static int count_pictures(const bench *b, int asked, int *tokens) {
    int each = rows_of(b, asked);
    if (asked == AS_MANY_AS_FIT) return most_pictures(b, *tokens);
    if (!*tokens) *tokens = asked * each + QUESTION;
    if ((int64_t)asked * each < *tokens) return asked;
    flag_refuse("-p %d: %d pictures of %d tokens take %lld, and a question takes one more", *tokens, asked,
                each, (long long)asked * each);
    return -1;
}

int question_make(const bench *b, int tokens, int pictures, question *q) {
    uint32_t seed = (uint32_t)tokens;
    *q = (question){.prompt = VLCACHE_PROMPT_INIT};
    int n = count_pictures(b, pictures, &tokens), text = tokens - n * rows_of(b, n);
    if (n < 0) return EXIT_USAGE;
    int behind = text < QUESTION ? text : QUESTION, at = 0;
    q->tokens = tokens;
    q->pictures = n;
    q->ids = memory_take((size_t)(text + n), sizeof *q->ids);
    q->images = memory_take((size_t)n, sizeof *q->images);
    while (at < text - behind) q->ids[at++] = random_id(b, &seed);
    for (int i = 0; i < n; i++) {
        q->images[i] = b->image;
        q->ids[at++] = VLCACHE_TOKEN_IMAGE;
    }
    for (int i = 0; i < behind; i++) q->ids[at++] = random_id(b, &seed);
    q->prompt.tokens = q->ids;
    q->prompt.n_tokens = (size_t)at;
    q->prompt.images = q->images;
    q->prompt.n_images = (size_t)n;
    return EXIT_OK;
}

void question_words(const bench *b, question *q) {
    *q = (question){.prompt = VLCACHE_PROMPT_INIT, .pictures = b->image != NULL};
    q->images = memory_take(1, sizeof *q->images);
    q->images[0] = b->image;
    q->prompt.text = b->options.prompt;
    q->prompt.images = q->images;
    q->prompt.n_images = b->image != NULL;
}

void question_release(question *q) {
    free(q->ids);
    free(q->images);
    *q = (question){.prompt = VLCACHE_PROMPT_INIT};
}
