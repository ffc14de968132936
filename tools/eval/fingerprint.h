/**
 * fingerprint.h - short texts that tell one data file, or one model, from another.
 */
#ifndef EVAL_FINGERPRINT_H
#define EVAL_FINGERPRINT_H

#include <stdbool.h>

enum { FINGERPRINT_BYTES = 17 };

/** Of a file: 64-bit FNV-1a of its bytes, 16 hexadecimal digits. False when it cannot be read (errno). */
bool fingerprint_file(const char *path, char text[FINGERPRINT_BYTES]);

/** Of a model folder: the bytes of config.json, and the name and size of every file, by name. The weights
 * themselves are not read. False when the folder or its config.json cannot be read (errno). */
bool fingerprint_model(const char *folder, char text[FINGERPRINT_BYTES]);

#endif
