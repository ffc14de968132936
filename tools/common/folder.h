/**
 * folder.h - where the model is that answers without -m.
 */
#ifndef COMMON_FOLDER_H
#define COMMON_FOLDER_H

#include <stdbool.h>

enum { FOLDER_BYTES = 4096 };

/** The first there is of: $VLCACHE_MODEL (taken as it stands); ../share/vlcache/model beside the folder of
 * the program; the folders known when it was built. False when there is none. */
bool folder_of_model(char path[FOLDER_BYTES]);

#endif
