/**
 * fingerprint.h - short texts that tell contents apart: one model from another, one picture from another.
 *
 * Contents are hashed, and what a file's hash was is remembered from run to run by everything that the file
 * system says of it: a checkpoint of many gigabytes is read once.
 */
#ifndef EVAL_FINGERPRINT_H
#define EVAL_FINGERPRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/console.h"

enum { FINGERPRINT_BYTES = 17 };

/** 16 hexadecimal digits. */
void fingerprint_text(uint64_t hash, char text[FINGERPRINT_BYTES]);

/** Of a regular file's bytes. False when it cannot be read (errno). */
bool fingerprint_file(const char *path, char text[FINGERPRINT_BYTES]);

/** Of a model folder: names and bytes of all files that a model is read from: weights, configuration,
 * vocabulary, template. The console shows a bar meanwhile; NULL: none. False when the folder or one of
 * them cannot be read (errno). */
bool fingerprint_model(const char *folder, console *c, char text[FINGERPRINT_BYTES]);

/** Remembers for the next run what this one has hashed, where there is a cache folder. */
void fingerprint_keep(void);

#endif
