/**
 * taps.h - reader of named-tap files: the goldens of test/data and what the library dumps.
 *
 * Little-endian. Magic "VLTAPS01", then records until the end of the file: u32 name length, name bytes, u32
 * dtype (1 float32, 4 int32), u32 ndim, u64 dims[ndim], data padded to 8 bytes.
 */
#ifndef VLCT_TAPS_H
#define VLCT_TAPS_H

#include <stddef.h>
#include <stdint.h>

enum { TAPS_MAX_DIMS = 8, TAPS_F32 = 1, TAPS_I32 = 4 };

/** One tensor; everything it points to belongs to the taps it came from. */
typedef struct tap {
    char *name;
    int dtype; /**< TAPS_F32 or TAPS_I32 */
    int n_dims;
    size_t dim[TAPS_MAX_DIMS];
    size_t n;         /**< number of values */
    const float *f32; /**< the values when TAPS_F32, else NULL */
    const int32_t *i32;
    void *data;
} tap;

typedef struct taps {
    size_t n;
    tap *tap;
} taps;

/**
 * Reads a whole file; every length is checked against what is left of the file. On failure returns false,
 * `*out` is empty and `message` (of `size` bytes, may be NULL with 0) says what is wrong and at which byte.
 */
_Bool taps_load(const char *path, taps *out, char *message, size_t size);

/** The last tap of this name (a later dump of a stage replaces an earlier one), NULL when there is none. */
const tap *taps_find(const taps *set, const char *name);

/** As taps_find(), with the name made as printf() would. */
const tap *taps_findf(const taps *set, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Frees everything and empties `*set`. */
void taps_release(taps *set);

#endif
