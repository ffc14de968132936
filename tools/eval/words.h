/**
 * words.h - a text as the words that CIDEr-D counts, as the Penn Treebank tokenizer of the COCO caption
 * evaluation leaves them: lower case, clitics apart, punctuation dropped.
 */
#ifndef EVAL_WORDS_H
#define EVAL_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/** The words one after another, each ended by a zero byte; word i begins at text + start[i]. */
typedef struct words {
    char *text;
    size_t *start;
    size_t n;
} words;

/**
 * Splits a text:
 *   - letters, digits and anything that is not ASCII make words; so do a hyphen, an apostrophe, a slash or an
 *     underscore between two of them ("t-shirt", "o'clock") and a full stop or a comma between digits or,
 *     the full stop, between letters ("3.5", "1,000", "u.s")
 *   - n't, 's, 're, 've, 'll, 'd and 'm are words of their own, and so are both halves of cannot, gonna,
 *     gotta, wanna, gimme and lemme
 *   - ' ` " . ? ! , : - ; and runs of them are dropped; ( ) { } become -lrb- -rrb- -lcb- -rcb-, which the
 *     public code keeps too, since it drops their upper case only; any other sign is a word
 * It differs from the Java program where that knows abbreviations ("mr." keeps its full stop there).
 * False when memory runs out; words_release() in any case.
 */
bool words_of(const char *text, words *out);

void words_release(words *w);

#endif
