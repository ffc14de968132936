/**
 * ref_patch.h - the patches of pictures as their definition reads.
 */
#ifndef REF_PATCH_H
#define REF_PATCH_H

/** pixels [tiles][3][side][side] to rows [tiles * (side / patch)^2][3 * patch^2]. */
void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch);

/** Rows [n][3 * step * patch^2] of the patches at `place` (step in time, row, column) of pixels
 * [frames][3][height][width]; the last frame stands for those that a step lacks. */
void ref_patchify_at(const float *pixels, int frames, int height, int width, int patch, int step,
                     const int (*place)[3], int n, float *rows);

/** Element i of a table [side^2][hidden] at a patch's place, bilinear, the table's corners on those of rows x
 * columns patches. */
double ref_table(const float *table, int side, int hidden, const int place[3], int rows, int columns, int i);

#endif
