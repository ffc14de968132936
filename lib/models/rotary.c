/*
 * rotary.c - the settings of rotary positions, and the frequencies that they mean.
 *
 *     pair d of D / 2 turns by   position[axis(d)] theta^(-2d/D)
 *
 *     linear   every frequency divided by the factor
 *     llama3   slow ones divided, fast ones not, between them a blend by turns within the original length
 *     yarn     the same with a blend that is linear in d; cosines and sines times 0.1 ln(factor) + 1
 */
#include "models/rotary.h"

#include <math.h>
#include <string.h>

#include "checkpoint/hub.h"

static const double pi = 3.14159265358979323846;

/* ---- settings ------------------------------------------------------------------------------------------ */

static vlcache_status read_llama3(const vlci_scope *rope, vlci_rotary *r) {
    vlcache_status status = vlci_json_float(rope, "low_freq_factor", 1e-3, 1e6, &r->low_factor);
    if (!status) status = vlci_json_float(rope, "high_freq_factor", 1e-3, 1e6, &r->high_factor);
    if (status) return status;
    if (r->low_factor == 0) return vlci_json_bad(rope, "low_freq_factor", "is missing");
    if (r->high_factor <= r->low_factor)
        return vlci_json_bad(rope, "high_freq_factor", "is %g, must be larger than low_freq_factor %g",
                             (double)r->high_factor, (double)r->low_factor);
    return VLCACHE_OK;
}

/* What yarn's authors found for a factor. */
static double magnitude(double factor, double scale) {
    return factor <= 1 ? 1.0 : 0.1 * scale * log(factor) + 1.0;
}

static vlcache_status read_yarn(const vlci_scope *rope, int *max_positions, vlci_rotary *r) {
    float scale = 0, scale_all = 0, own = 0;
    bool truncate = true;
    r->beta_fast = 32;
    r->beta_slow = 1;
    vlcache_status status = vlci_json_float(rope, "beta_fast", 1e-3, 1e6, &r->beta_fast);
    if (!status) status = vlci_json_float(rope, "beta_slow", 1e-3, 1e6, &r->beta_slow);
    if (!status) status = vlci_json_float(rope, "mscale", 0, 1e3, &scale);
    if (!status) status = vlci_json_float(rope, "mscale_all_dim", 0, 1e3, &scale_all);
    if (!status) status = vlci_json_float(rope, "attention_factor", 1e-3, 1e3, &own);
    if (!status) status = vlci_json_bool(rope, "truncate", &truncate);
    if (status) return status;
    if (r->beta_fast <= r->beta_slow)
        return vlci_json_bad(rope, "beta_fast", "is %g, must be larger than beta_slow %g",
                             (double)r->beta_fast, (double)r->beta_slow);
    r->exact_range = !truncate;
    double factor = (double)r->factor, reach = factor * r->original_positions;
    r->attention_factor =
        own > 0 ? own
        : scale > 0 && scale_all > 0
            ? (float)(magnitude(factor, (double)scale) / magnitude(factor, (double)scale_all))
            : (float)magnitude(factor, 1);
    if (reach > *max_positions) *max_positions = reach > VLCI_MAX_IDS ? VLCI_MAX_IDS : (int)reach;
    return VLCACHE_OK;
}

/* The length that a model was trained for stands beside the other parameters, or outside them, which counts.
 */
static vlcache_status read_scaling(const vlci_scope *scope, const vlci_scope *rope, const char *type,
                                   int *max_positions, vlci_rotary *r) {
    vlcache_status status = vlci_json_float(rope, "factor", 1e-3, 1e6, &r->factor);
    if (!status && r->factor == 0) status = vlci_json_bad(rope, "factor", "is missing");
    r->original_positions = *max_positions;
    if (!status)
        status =
            vlci_json_int(rope, "original_max_position_embeddings", 1, VLCI_MAX_IDS, &r->original_positions);
    if (!status)
        status =
            vlci_json_int(scope, "original_max_position_embeddings", 1, VLCI_MAX_IDS, &r->original_positions);
    if (status || strcmp(type, "dynamic") == 0) return status;
    if (strcmp(type, "linear") == 0) r->kind = VLCI_ROPE_LINEAR;
    if (strcmp(type, "llama3") == 0) r->kind = VLCI_ROPE_LLAMA3;
    if (strcmp(type, "yarn") == 0) r->kind = VLCI_ROPE_YARN;
    if (r->kind == VLCI_ROPE_LLAMA3) status = read_llama3(rope, r);
    return r->kind == VLCI_ROPE_YARN ? read_yarn(rope, max_positions, r) : status;
}

/* Sections are three numbers; stretches of pairs make up all of them. */
static vlcache_status read_sections(const vlci_scope *rope, int head_dim, vlci_rotary *r) {
    const json_t *list;
    bool interleaved = r->interleaved;
    int sum = 0;
    if (!r->section[0]) return VLCACHE_OK;
    vlcache_status status = vlci_json_array(rope, "mrope_section", &list);
    if (!status) status = vlci_json_bool(rope, "mrope_interleaved", &interleaved);
    if (status) return status;
    if (interleaved != r->interleaved)
        return vlci_json_unsupported(rope, "mrope_interleaved", "%s; this text model's is %s",
                                     interleaved ? "true" : "false", interleaved ? "false" : "true");
    if (list && json_array_size(list) != 3)
        return vlci_json_bad(rope, "mrope_section", "holds %zu numbers, must hold 3", json_array_size(list));
    for (size_t i = 0; i < 3; i++) {
        const json_t *value = list ? json_array_get(list, i) : NULL;
        if (value && (!json_is_integer(value) || json_integer_value(value) < 1 ||
                      json_integer_value(value) > head_dim))
            return vlci_json_bad(rope, "mrope_section", "entry %zu must be from 1 to head_dim %d", i,
                                 head_dim);
        if (value) r->section[i] = (int)json_integer_value(value);
        sum += r->section[i];
    }
    if (sum == head_dim / 2) return VLCACHE_OK;
    return vlci_json_bad(rope, "mrope_section", "comes to %d pairs, head_dim has %d", sum, head_dim / 2);
}

/* "default" and what means it, and what is scaled. */
static vlcache_status check_type(const vlci_scope *rope, const char *type) {
    static const char *const known[] = {"default", "mrope", "dynamic", "linear", "llama3", "yarn"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i]) == 0) return VLCACHE_OK;
    return vlci_json_unsupported(
        rope, "rope_type", "\"%.64s\"; default, linear, dynamic, llama3, yarn and mrope are supported", type);
}

/* Files of 5.x may have a set of parameters for each type of layer. */
static vlcache_status check_flat(const vlci_scope *rope) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)rope->object, key, value) {
        if (json_is_object(value))
            return vlci_json_unsupported(rope, key, "an object; one set for all layers is supported");
    }
    return VLCACHE_OK;
}

vlcache_status vlci_rotary_read(const vlci_scope *scope, int head_dim, int *max_positions, vlci_rotary *r) {
    vlci_scope rope;
    const char *type = "default";
    float partial = 1;
    r->attention_factor = 1;
    vlcache_status status = vlci_json_object(scope, "rope_scaling", &rope);
    if (!status && json_object_size(rope.object) == 0)
        status = vlci_json_object(scope, "rope_parameters", &rope);
    if (!status) status = check_flat(&rope);
    if (!status) status = vlci_json_float(scope, "rope_theta", 1e-3, 1e12, &r->theta);
    if (!status) status = vlci_json_float(&rope, "rope_theta", 1e-3, 1e12, &r->theta);
    if (!status) status = vlci_json_float(scope, "partial_rotary_factor", 0, 1e6, &partial);
    if (!status) status = vlci_json_float(&rope, "partial_rotary_factor", 0, 1e6, &partial);
    if (!status && partial != 1)
        status = vlci_json_unsupported(scope, "partial_rotary_factor", "only 1 is supported");
    if (!status) status = vlci_json_string(&rope, "type", &type);
    if (!status) status = vlci_json_string(&rope, "rope_type", &type);
    if (!status) status = check_type(&rope, type);
    if (!status) status = read_sections(&rope, head_dim, r);
    if (status || strcmp(type, "default") == 0 || strcmp(type, "mrope") == 0) return status;
    return read_scaling(scope, &rope, type, max_positions, r);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* Llama 3's smooth blend by wavelength. */
static double blend_llama3(const vlci_rotary *r, double f) {
    double low = (double)r->low_factor, high = (double)r->high_factor, factor = (double)r->factor;
    double wraps = r->original_positions * f / (2.0 * pi);
    double smooth = (wraps - low) / (high - low);
    if (wraps < low) return f / factor;
    return wraps > high ? f : (1.0 - smooth) * f / factor + smooth * f;
}

/* The pair that makes so many turns within the original length. */
static double pair_of(const vlci_rotary *r, int head_dim, double turns) {
    return head_dim * log(r->original_positions / (turns * 2.0 * pi)) / (2.0 * log((double)r->theta));
}

static double blend_yarn(const vlci_rotary *r, int head_dim, int d, double f) {
    double low = pair_of(r, head_dim, (double)r->beta_fast),
           high = pair_of(r, head_dim, (double)r->beta_slow);
    if (!r->exact_range) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, head_dim - 1);
    if (low == high) high += 0.001;
    double divided = fmin(fmax((d - low) / (high - low), 0), 1);
    return f / (double)r->factor * divided + f * (1.0 - divided);
}

static double frequency(const vlci_rotary *r, int head_dim, int d) {
    double f = pow((double)r->theta, -2.0 * d / head_dim);
    switch (r->kind) {
    case VLCI_ROPE_LINEAR:
        return f / (double)r->factor;
    case VLCI_ROPE_LLAMA3:
        return blend_llama3(r, f);
    case VLCI_ROPE_YARN:
        return blend_yarn(r, head_dim, d, f);
    case VLCI_ROPE_PLAIN:
        break;
    }
    return f;
}

/* Stretches one behind another; or height at 1, 4, .., width at 2, 5, .., as far as their sections go, and
 * time in all other places. */
static int32_t axis_of(const vlci_rotary *r, int d) {
    if (!r->section[0]) return 0;
    if (!r->interleaved) return (d >= r->section[0]) + (d >= r->section[0] + r->section[1]);
    return d % 3 && d < 3 * r->section[d % 3] ? d % 3 : 0;
}

void vlci_rotary_fill(const vlci_rotary *rope, int head_dim, float *inv_freq, int32_t *axis) {
    for (int d = 0; d < head_dim / 2; d++) {
        inv_freq[d] = (float)frequency(rope, head_dim, d);
        axis[d] = axis_of(rope, d);
    }
}
