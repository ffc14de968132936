/*
 * ref_patch.c - patches as their definition reads.
 */
#include "ref/ref_patch.h"

#include <math.h>

void ref_patchify(const float *pixels, float *rows, int tiles, int side, int patch) {
    for (int tile = 0; tile < tiles; tile++)
        for (int top = 0; top + patch <= side; top += patch)
            for (int left = 0; left + patch <= side; left += patch)
                for (int channel = 0; channel < 3; channel++)
                    for (int y = top; y < top + patch; y++)
                        for (int x = left; x < left + patch; x++)
                            *rows++ = pixels[((tile * 3 + channel) * side + y) * side + x];
}

void ref_patchify_at(const float *pixels, int frames, int height, int width, int patch, int step,
                     const int (*place)[3], int n, float *rows) {
    for (int r = 0; r < n; r++)
        for (int channel = 0; channel < 3; channel++)
            for (int t = 0; t < step; t++)
                for (int y = 0; y < patch; y++)
                    for (int x = 0; x < patch; x++) {
                        int frame = place[r][0] * step + t;
                        if (frame >= frames) frame = frames - 1;
                        int row = place[r][1] * patch + y, column = place[r][2] * patch + x;
                        *rows++ = pixels[((frame * 3 + channel) * height + row) * width + column];
                    }
}

/* Where a position of an axis falls among the entries of the table, corners on corners. */
static double stretched(int at, int size, int side) {
    return size > 1 ? (double)at * (side - 1) / (size - 1) : 0;
}

double ref_table(const float *table, int side, int hidden, const int place[3], int rows, int columns, int i) {
    double y = stretched(place[1], rows, side), x = stretched(place[2], columns, side), sum = 0;
    for (int r = 0; r < side; r++)
        for (int c = 0; c < side; c++) {
            double down = 1 - fabs(y - r), across = 1 - fabs(x - c);
            if (down > 0 && across > 0) sum += down * across * (double)table[(r * side + c) * hidden + i];
        }
    return sum;
}
