/**
 * eyes.h (internal) - eyes of the usual kind, a block of families: a vision transformer, and a projector from
 * its features to the text model's width. A family whose eyes these are has them first in what config->eyes
 * points to, and is left with its settings and how it cuts pictures.
 */
#ifndef VLCI_MODELS_EYES_H
#define VLCI_MODELS_EYES_H

#include "models/config.h"
#include "models/projector.h"
#include "models/vit.h"

typedef struct vlci_eyes {
    vlci_vit_config vision;
    vlci_processor processor;
    vlci_vit tower; /**< from here on: loaded */
    vlci_projector projector;
} vlci_eyes;

/** New memory of `bytes`, all zero, in config->eyes, which begins with a vlci_eyes. Errors:
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_eyes_create(size_t bytes, vlci_config *config);

/** Refuses a processor, read from `scope`, that does more or less than squeeze pictures to the tower's
 * square. Errors: VLCACHE_E_UNSUPPORTED (file and field named). */
vlcache_status vlci_eyes_check_squeezed(const vlci_scope *scope, const vlci_eyes *eyes);

/** Uploads tower and projector. Errors: those of vlci_upload_matrix(). */
vlcache_status vlci_eyes_load(vlci_upload *up, const vlci_projector_config *projector, vlci_eyes *eyes);

/** A family's release(): frees config->eyes, which owns nothing else. */
void vlci_eyes_release(vlci_config *config);

/** A family's describe(). */
void vlci_eyes_describe(const vlci_config *config, vlcache_model_info *info);

/**
 * A family's look(): the tower, then squares of factor x factor patches as one row each (1: every patch is
 * one; class tokens are left out), then the projector, in the order in which the tiles lie. Errors: the
 * device's, VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_eyes_look(const vlci_config *config, const vlci_pixels *pixels, int factor,
                              const vlci_picture_layout *layout, cl_mem *tokens);

/** A family's together(), where tokens come in the order of tiles and layouts have no sources. */
int vlci_eyes_together(const vlci_config *config);

#endif
