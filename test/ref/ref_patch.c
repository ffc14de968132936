/*
 * ref_patch.c - patches as their definition reads.
 */
#include "ref/ref_patch.h"

void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch) {
    for (int tile = 0; tile < tiles; tile++)
        for (int top = 0; top + patch <= side; top += patch)
            for (int left = 0; left + patch <= side; left += patch)
                for (int channel = 0; channel < 3; channel++)
                    for (int y = top; y < top + patch; y++)
                        for (int x = left; x < left + patch; x++)
                            *rows++ = pixels[((tile * 3 + channel) * side + y) * side + x];
}
