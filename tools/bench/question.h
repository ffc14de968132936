/**
 * question.h - what is asked of a model: words, or ids of a number with pictures among them.
 *
 *     random ids | pictures | 32 random ids          so that a prompt has text behind its pictures, and no
 *                                                    more of it than a question
 */
#ifndef BENCH_QUESTION_H
#define BENCH_QUESTION_H

#include "bench/bench.h"

/** A prompt and what it borrows from. */
typedef struct question {
    vlcache_prompt prompt;
    int32_t *ids;
    const vlcache_image **images;
    int tokens, pictures; /* rows that they become; of words: 0 until asked */
} question;

/**
 * `tokens`: rows of the prompt; 0: as the pictures need. `pictures`: AS_MANY_AS_FIT or a number. An exit
 * code: EXIT_USAGE (told) where so many pictures do not fit. Release in any case.
 */
int question_make(const bench *b, int tokens, int pictures, question *out);

/** The words of --prompt. */
void question_words(const bench *b, question *out);

void question_release(question *q);

#endif
