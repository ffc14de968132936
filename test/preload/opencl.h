/*
 * opencl.h - the calls of OpenCL that the library and CLBlast make, by what they return: name, parameters,
 * arguments.
 */
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

/* clang-format off */
#define CODES(X) \
    X(clGetPlatformIDs, (cl_uint a, cl_platform_id *b, cl_uint *c), (a, b, c)) \
    X(clGetPlatformInfo, (cl_platform_id a, cl_platform_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetDeviceIDs, (cl_platform_id a, cl_device_type b, cl_uint c, cl_device_id *d, cl_uint *e), (a, b, c, d, e)) \
    X(clGetCommandQueueInfo, (cl_command_queue a, cl_command_queue_info b, size_t c, void *d, size_t *e), \
      (a, b, c, d, e)) \
    X(clGetProgramInfo, (cl_program a, cl_program_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetProgramBuildInfo, (cl_program a, cl_device_id b, cl_program_build_info c, size_t d, void *e, size_t *f), \
      (a, b, c, d, e, f)) \
    X(clGetEventProfilingInfo, (cl_event a, cl_profiling_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clBuildProgram, (cl_program a, cl_uint b, const cl_device_id *c, const char *d, \
                       void(CL_CALLBACK *e)(cl_program, void *), void *f), (a, b, c, d, e, f)) \
    X(clGetKernelInfo, (cl_kernel a, cl_kernel_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetKernelWorkGroupInfo, (cl_kernel a, cl_device_id b, cl_kernel_work_group_info c, size_t d, void *e, size_t *f), \
      (a, b, c, d, e, f)) \
    X(clGetMemObjectInfo, (cl_mem a, cl_mem_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clGetDeviceInfo, (cl_device_id a, cl_device_info b, size_t c, void *d, size_t *e), (a, b, c, d, e)) \
    X(clSetKernelArg, (cl_kernel a, cl_uint b, size_t c, const void *d), (a, b, c, d)) \
    X(clEnqueueNDRangeKernel, (cl_command_queue a, cl_kernel b, cl_uint c, const size_t *d, const size_t *e, \
                               const size_t *f, cl_uint g, const cl_event *h, cl_event *i), \
      (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueReadBuffer, (cl_command_queue a, cl_mem b, cl_bool c, size_t d, size_t e, void *f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueWriteBuffer, (cl_command_queue a, cl_mem b, cl_bool c, size_t d, size_t e, const void *f, cl_uint g, \
                             const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueCopyBuffer, (cl_command_queue a, cl_mem b, cl_mem c, size_t d, size_t e, size_t f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueFillBuffer, (cl_command_queue a, cl_mem b, const void *c, size_t d, size_t e, size_t f, cl_uint g, \
                            const cl_event *h, cl_event *i), (a, b, c, d, e, f, g, h, i)) \
    X(clEnqueueBarrierWithWaitList, (cl_command_queue a, cl_uint b, const cl_event *c, cl_event *d), (a, b, c, d)) \
    X(clEnqueueMarkerWithWaitList, (cl_command_queue a, cl_uint b, const cl_event *c, cl_event *d), (a, b, c, d)) \
    X(clFlush, (cl_command_queue a), (a)) \
    X(clFinish, (cl_command_queue a), (a)) \
    X(clWaitForEvents, (cl_uint a, const cl_event *b), (a, b))
/* What gives back never fails. */
#define RELEASES(X) \
    X(clReleaseMemObject, (cl_mem a), (a)) \
    X(clReleaseKernel, (cl_kernel a), (a)) \
    X(clReleaseProgram, (cl_program a), (a)) \
    X(clReleaseEvent, (cl_event a), (a)) \
    X(clEnqueueUnmapMemObject, (cl_command_queue a, cl_mem b, void *c, cl_uint d, const cl_event *e, cl_event *f), \
      (a, b, c, d, e, f))
#define HANDLES(X) \
    X(cl_context, clCreateContext, (const cl_context_properties *a, cl_uint b, const cl_device_id *c, \
                                    void(CL_CALLBACK *d)(const char *, const void *, size_t, void *), void *e, cl_int *f), \
      (a, b, c, d, e, f), f) \
    X(cl_command_queue, clCreateCommandQueue, (cl_context a, cl_device_id b, cl_command_queue_properties c, cl_int *d), \
      (a, b, c, d), d) \
    X(cl_mem, clCreateBuffer, (cl_context a, cl_mem_flags b, size_t c, void *d, cl_int *e), (a, b, c, d, e), e) \
    X(void *, clEnqueueMapBuffer, (cl_command_queue a, cl_mem b, cl_bool c, cl_map_flags d, size_t e, size_t f, cl_uint g, \
                                   const cl_event *h, cl_event *i, cl_int *j), (a, b, c, d, e, f, g, h, i, j), j) \
    X(cl_kernel, clCreateKernel, (cl_program a, const char *b, cl_int *c), (a, b, c), c) \
    X(cl_program, clCreateProgramWithSource, (cl_context a, cl_uint b, const char **c, const size_t *d, cl_int *e), \
      (a, b, c, d, e), e) \
    X(cl_program, clCreateProgramWithBinary, (cl_context a, cl_uint b, const cl_device_id *c, const size_t *d, \
                                              const unsigned char **e, cl_int *f, cl_int *g), \
      (a, b, c, d, e, f, g), g)
/* clang-format on */
