/**
 * libav.h (internal) - libavformat, libavcodec and libswscale, loaded when the first video is opened: linking
 * them brings a hundred libraries into every program that ever only looks at pictures.
 */
#ifndef VLCI_VIDEO_LIBAV_H
#define VLCI_VIDEO_LIBAV_H

#ifdef VLCI_WITH_LIBAV
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libswscale/swscale.h>

/** Where a track's display matrix stands moved with FFmpeg 6.1. */
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
#define VLCI_LIBAV_SIDE_DATA av_packet_side_data_get
#else
#define VLCI_LIBAV_SIDE_DATA av_stream_get_side_data
#endif

/** Every function that is called. */
#define VLCI_LIBAV_FUNCTIONS(X)                                                                              \
    X(av_dict_set)                                                                                           \
    X(av_dict_set_int)                                                                                       \
    X(av_dict_free)                                                                                          \
    X(av_strerror)                                                                                           \
    X(av_log_get_level)                                                                                      \
    X(av_log_set_level)                                                                                      \
    X(av_max_alloc)                                                                                          \
    X(avformat_open_input)                                                                                   \
    X(avformat_find_stream_info)                                                                             \
    X(av_find_best_stream)                                                                                   \
    X(av_seek_frame)                                                                                         \
    X(avcodec_flush_buffers)                                                                                 \
    X(av_read_frame)                                                                                         \
    X(av_packet_unref)                                                                                       \
    X(avcodec_find_decoder)                                                                                  \
    X(avcodec_get_name)                                                                                      \
    X(avcodec_alloc_context3)                                                                                \
    X(avcodec_parameters_to_context)                                                                         \
    X(avcodec_open2)                                                                                         \
    X(avcodec_free_context)                                                                                  \
    X(avformat_close_input)                                                                                  \
    X(av_frame_unref)                                                                                        \
    X(avcodec_send_packet)                                                                                   \
    X(avcodec_receive_frame)                                                                                 \
    X(av_frame_move_ref)                                                                                     \
    X(sws_getCoefficients)                                                                                   \
    X(sws_setColorspaceDetails)                                                                              \
    X(sws_getCachedContext)                                                                                  \
    X(sws_scale)                                                                                             \
    X(av_packet_free)                                                                                        \
    X(av_frame_free)                                                                                         \
    X(sws_freeContext)                                                                                       \
    X(av_free)                                                                                               \
    X(av_malloc)                                                                                             \
    X(av_packet_alloc)                                                                                       \
    X(av_frame_alloc)                                                                                        \
    X(av_display_rotation_get)                                                                               \
    X(VLCI_LIBAV_SIDE_DATA)

#define VLCI_LIBAV_MEMBER(name) __typeof__(&name) name;
typedef struct vlci_libav_table {
    VLCI_LIBAV_FUNCTIONS(VLCI_LIBAV_MEMBER)
} vlci_libav_table;

/** Filled once vlcache_video_reads_files() has been true. */
extern vlci_libav_table vlci_libav;

#define VLCI_LIBAV_PACKAGES                                                                                  \
    "libavformat, libavcodec and libswscale of the version that vlcache was built with"
#define VLCI_LIBAV_MISSING "video files are read through libraries that are not here"
#else
#define VLCI_LIBAV_PACKAGES "libavformat-dev, libavcodec-dev and libswscale-dev, and build again"
#define VLCI_LIBAV_MISSING  "this build reads no video files"
#endif

#endif
