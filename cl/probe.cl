/*
 * probe.cl - the smallest kernel: out[i] = i * scale. It shows that a device compiles, takes arguments and writes.
 */
__kernel void probe(__global float *out, float scale) { out[get_global_id(0)] = scale * (float)get_global_id(0); }
