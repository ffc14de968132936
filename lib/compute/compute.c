/*
 * compute.c - opens what a model computes with, part by part.
 */
#include "compute/compute.h"

vlcache_status vlci_compute_open(vlcache_device *device, vlci_activation gate, vlci_compute *out) {
    *out = (vlci_compute){.device = device};
    vlcache_status status = vlci_norm_open(device, &out->norm);
    if (!status) status = vlci_act_open(device, gate, &out->gate);
    if (!status) status = vlci_patch_open(device, &out->patch);
    if (!status) status = vlci_sample_open(device, &out->sample);
    if (status) vlci_compute_close(out);
    return status;
}

vlcache_status vlci_compute_open_dtype(vlci_compute *k, vlcache_dtype dtype) {
    vlci_norm_kernels norm;
    vlci_act_kernels gate;
    vlcache_status status = vlci_linear_open(k->device, dtype, &k->linear);
    if (status) return status;
    vlci_form form = vlci_layout_form(vlci_linear_layout(&k->linear, dtype));
    if (form == VLCI_FLOATS || k->short_rows[dtype].norm.rms) return VLCACHE_OK;
    status = vlci_norm_open_form(k->device, form, dtype, &norm);
    if (!status) status = vlci_act_open_form(k->device, k->gate.act, form, dtype, &gate);
    if (status) return status;
    k->short_rows[dtype].norm = norm;
    k->short_rows[dtype].gate = gate;
    return VLCACHE_OK;
}

void vlci_compute_close(vlci_compute *compute) {
    vlci_linear_close(&compute->linear);
    vlci_chain_close(&compute->chain);
    vlci_chain_dot_close(&compute->chain_dot);
    *compute = (vlci_compute){0};
}
