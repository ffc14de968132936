/*
 * area.c - the size of a picture between a least and a most number of pixels.
 *
 *     sides to the nearest multiple of the factor, halves to the even one
 *     too large:  both by sqrt(most / pixels), down to a multiple, at least one
 *     too small:  both by sqrt(least / pixels), up to a multiple
 */
#include "picture/area.h"

#include <math.h>

#include "picture/format.h"

vlcache_status vlci_area_read(const vlci_scope *scope, vlci_area *area) {
    static const char *const names[][2] = {{"shortest_edge", "longest_edge"}, {"min_pixels", "max_pixels"}};
    vlci_scope size;
    vlcache_status status = vlci_json_object(scope, "size", &size);
    for (int i = 0; i < 2 && !status; i++) {
        status = vlci_json_int(&size, names[i][0], 1, VLCI_AREA_MAX, &area->least);
        if (!status) status = vlci_json_int(&size, names[i][1], 1, VLCI_AREA_MAX, &area->most);
    }
    if (!status && (vlci_json_value(&size, "height") || vlci_json_value(&size, "width")))
        status = vlci_json_unsupported(scope, "size",
                                       "height and width; only shortest_edge and longest_edge, numbers of "
                                       "pixels, are supported");
    if (!status) status = vlci_json_int(scope, "min_pixels", 1, VLCI_AREA_MAX, &area->least);
    if (!status) status = vlci_json_int(scope, "max_pixels", 1, VLCI_AREA_MAX, &area->most);
    if (!status && area->least > area->most)
        status = vlci_json_bad(scope, vlci_json_value(scope, "max_pixels") ? "max_pixels" : "size",
                               "allows at most %d pixels, but at least %d", area->most, area->least);
    return status;
}

static int64_t nearest(int side, int factor) {
    int whole = side / factor, rest = side % factor;
    if (2 * rest > factor || (2 * rest == factor && whole % 2)) whole++;
    return (int64_t)whole * factor;
}

static int64_t down(double side, int factor) {
    int64_t whole = (int64_t)floor(side / factor);
    return (whole > 1 ? whole : 1) * factor;
}

static int64_t up(double side, int factor) {
    return (int64_t)ceil(side / factor) * factor;
}

/* Of `frames` frames, `counted` of which count against the bounds. */
static vlcache_status fit(const vlci_area *area, double frames, int64_t counted, int width, int height,
                          int *fit_width, int *fit_height) {
    int longer = width > height ? width : height, shorter = width > height ? height : width;
    if (longer > (int64_t)VLCI_AREA_RATIO * shorter)
        return vlci_fail(
            VLCACHE_E_ARGUMENT,
            "picture of %d x %d pixels: one side is more than %d times the other, which this model "
            "family does not take: crop it",
            width, height, VLCI_AREA_RATIO);
    int64_t w = nearest(width, area->factor), h = nearest(height, area->factor);
    double pixels = frames * height * width;
    if (counted * w * h > area->most) {
        double shrink = sqrt(pixels / area->most);
        w = down(width / shrink, area->factor);
        h = down(height / shrink, area->factor);
    } else if (counted * w * h < area->least) {
        double grow = sqrt(area->least / pixels);
        w = up(width * grow, area->factor);
        h = up(height * grow, area->factor);
    }
    if (w > VLCI_IMAGE_MAX_SIDE || h > VLCI_IMAGE_MAX_SIDE)
        return vlci_fail(
            VLCACHE_E_UNSUPPORTED,
            "picture of %d x %d pixels: becomes %lld x %lld for at least %d pixels, sides must be at "
            "most %d: allow fewer",
            width, height, (long long)w, (long long)h, area->least, VLCI_IMAGE_MAX_SIDE);
    *fit_width = (int)w;
    *fit_height = (int)h;
    return VLCACHE_OK;
}

vlcache_status vlci_area_fit(const vlci_area *area, int width, int height, int *fit_width, int *fit_height) {
    return fit(area, 1, 1, width, height, fit_width, fit_height);
}

vlcache_status vlci_area_fit_frames(const vlci_area *area, int frames, int step, int width, int height,
                                    int *fit_width, int *fit_height) {
    int n = frames > step ? frames : step;
    if (height < area->factor || width < area->factor) {
        double grow = fmax((double)area->factor / height, (double)area->factor / width);
        height = (int)(height * grow);
        width = (int)(width * grow);
    }
    return fit(area, n, (int64_t)rint((double)n / step) * step, width, height, fit_width, fit_height);
}
