/**
 * ref_patch.h - the patches of pictures as their definition reads.
 */
#ifndef REF_PATCH_H
#define REF_PATCH_H

/** pixels [tiles][3][side][side] to rows [tiles * (side / patch)^2][3 * patch^2]. */
void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch);

#endif
