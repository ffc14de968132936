/*
 * compute.c - opens what a model computes with, part by part.
 */
#include "compute/compute.h"

static vlcache_status open_linear(vlcache_device *device, const vlci_compute_options *options,
                                  vlci_linear *out) {
    size_t most = sizeof options->dtypes / sizeof options->dtypes[0];
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < most && options->dtypes[i] != VLCACHE_DTYPE_AUTO && !status; i++)
        status = vlci_linear_open(device, options->dtypes[i], out);
    return status;
}

vlcache_status vlci_compute_open(vlcache_device *device, const vlci_compute_options *options,
                                 vlci_compute *out) {
    *out = (vlci_compute){0};
    vlcache_status status = vlci_norm_open(device, &out->norm);
    if (!status) status = vlci_act_open(device, options->gate, &out->gate);
    if (!status) status = vlci_patch_open(device, &out->patch);
    if (!status) status = vlci_rope_open(device, &out->rope);
    if (!status) status = vlci_sample_open(device, &out->sample);
    if (!status)
        status = open_linear(device, options, &out->linear); /* may measure: what is to build comes first */
    if (!status)
        status = vlci_embed_open(device, options->embedding,
                                 vlci_linear_layout(&out->linear, options->embedding), &out->embed);
    if (status) vlci_compute_close(out);
    return status;
}

void vlci_compute_close(vlci_compute *compute) {
    vlci_linear_close(&compute->linear);
    *compute = (vlci_compute){0};
}
