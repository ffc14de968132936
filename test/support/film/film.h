/**
 * film.h - small video files, written by libavformat and libavcodec where the build has them.
 */
#ifndef TEST_SUPPORT_FILM_H
#define TEST_SUPPORT_FILM_H

#include <stdbool.h>
#include <stdint.h>

/** What film_write() writes. */
typedef struct film {
    const char *codec; /**< "png" keeps RGB as it is; "mpeg4" has frames out of order */
    int frames, width, height, fps;
    int turns; /**< quarter turns, clockwise, that a player is told to make */
} film;

/** Pixel (x, y) of frame `frame`: smooth in all three, so that lossy codecs come close. */
void film_pixel(int frame, int x, int y, uint8_t rgb[3]);

/** Whether films can be written: the build has libav. */
bool film_can(void);

/** Writes a film; the ending of `path` says how (".mkv", ".mp4", ".mov", ".avi"). Fails the test when it
 * cannot. */
void film_write(const char *path, const film *f);

#endif
