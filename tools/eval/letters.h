/**
 * letters.h - texts as the metrics see them: code points, lower case, one space between words.
 */
#ifndef EVAL_LETTERS_H
#define EVAL_LETTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Code points; `at` is new memory (free), never NULL unless memory ran out. `given`: how many there were
 * before white space was dropped. */
typedef struct letters {
    int32_t *at;
    size_t n, given;
} letters;

/**
 * Python's " ".join(text.strip().lower().split()): lower case, white space at the ends dropped, a run of it
 * inside one space. Lower case is per code point (Unicode's simple mapping). A byte that is not UTF-8 stands
 * for itself. False when memory runs out.
 */
bool letters_of(const char *text, letters *out);

void letters_release(letters *l);

bool letters_equal(const letters *a, const letters *b);

/** Whether `part` occurs in `whole`; an empty part does in every text. */
bool letters_contain(const letters *whole, const letters *part);

/** Levenshtein distance: the fewest insertions, deletions and substitutions of code points. SIZE_MAX when
 * memory runs out. */
size_t letters_distance(const letters *a, const letters *b);

/** What str.isspace() of Python says of a code point. */
bool letters_is_space(int32_t c);

#endif
