/**
 * vlcache.h - everything: vision-language models on any OpenCL device, with a KV cache that VL-Cache makes
 * small. A whole program that asks about a picture (cc ask.c $(pkg-config --cflags --libs vlcache)):
 *
 *     #include <stdio.h>
 *     #include <vlcache/vlcache.h>
 *
 *     static bool show(void *user, const char *piece) {
 *         (void)user;
 *         return fputs(piece, stdout) >= 0;
 *     }
 *
 *     int main(int argc, char **argv) { // MODEL PICTURE QUESTION
 *         vlcache_device *device = NULL;
 *         vlcache_model *model = NULL;
 *         vlcache_image *image = NULL;
 *         vlcache_session *session = NULL;
 *         vlcache_compress_options compress = VLCACHE_COMPRESS_OPTIONS_INIT;
 *         vlcache_session_options options = VLCACHE_SESSION_OPTIONS_INIT;
 *         vlcache_generate_options generate = VLCACHE_GENERATE_OPTIONS_INIT;
 *         vlcache_prompt prompt = VLCACHE_PROMPT_INIT;
 *         generate.on_text = show;
 *         compress.policy = "vlcache+"; // on a tenth of the KV cache
 *         options.compress = &compress;
 *         vlcache_status status = argc == 4 ? VLCACHE_OK : VLCACHE_E_ARGUMENT;
 *         if (!status) status = vlcache_device_open(NULL, NULL, &device); // the first GPU, or a CPU
 *         if (!status) status = vlcache_model_load(device, argv[1], NULL, &model);
 *         if (!status) status = vlcache_image_load(argv[2], &image);
 *         if (!status) status = vlcache_session_create(model, &options, &session);
 *         prompt.text = argv[argc - 1];
 *         prompt.images = (const vlcache_image *const *)&image;
 *         prompt.n_images = 1;
 *         if (!status) status = vlcache_session_ask(session, &prompt, &generate, NULL);
 *         if (argc != 4) fputs("ask MODEL PICTURE QUESTION", stderr);
 *         else if (status) fputs(vlcache_error_message(), stderr);
 *         putchar('\n');
 *         vlcache_session_destroy(&session);
 *         vlcache_image_destroy(&image);
 *         vlcache_model_destroy(&model);
 *         vlcache_device_destroy(&device);
 *         return status ? 1 : 0;
 *     }
 */
#ifndef VLCACHE_VLCACHE_H
#define VLCACHE_VLCACHE_H

#include "common.h"
#include "compress.h"
#include "device.h"
#include "engine.h"
#include "image.h"
#include "model.h"
#include "outline.h"
#include "session.h"
#include "status.h"
#include "video.h"

#endif
