/**
 * align.h - where in a reference an answer is right, and whether it is an answer at all.
 */
#ifndef EVAL_ALIGN_H
#define EVAL_ALIGN_H

#include <stdbool.h>
#include <stddef.h>

enum { ALIGN_PARTS = 10 };

/**
 * Of each tenth of the reference's letters (as metrics see them: letters.h) the share that the answer has in
 * its place: those that stay, in a way of fewest edits from the reference to the answer. NaN for a tenth
 * without letters. False when memory runs out, or where the texts are so long that nobody would wait.
 */
bool align_parts(const char *answer, const char *reference, double parts[ALIGN_PARTS]);

/** Whether a text goes round in circles: some piece of 4 letters or more stands in it four times in a row. */
bool align_loops(const char *text);

#endif
