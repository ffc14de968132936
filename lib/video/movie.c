/*
 * movie.c - frames of a video file, through libavformat, libavcodec and libswscale.
 *
 *     open:  file --demux--> packets, counted      file --demux, decode--> frame 0: the size
 *     read:  ... --decode--> frame i --RGB, quarter turns--> picture
 *
 * Frames are numbered as the decoder gives them. Where every packet has a time, their order says when each
 * frame is shown, and far ones are reached from the key frame before them; a frame that is not the one meant
 * then, by its time, is looked for from the beginning. Only files are opened, never what a file names: no
 * network, no playlists, no external tracks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/alloc.h"
#include "video/libav.h"
#include "video/source.h"

#ifdef VLCI_WITH_LIBAV
#include <math.h>

#define AGAIN "convert it (ffmpeg -i FILE -c:v libx264 out.mp4) or copy it again"

static const char demuxers[] =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,gif,ivf";

enum { THREADS = 4, ALIGN = 64, SPARE = 256, USUAL_FPS = 24, LEAP = 48 };

typedef struct movie {
    char *url, *name;
    AVFormatContext *format;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame, *next; /* the last decoded one; room for another */
    struct SwsContext *to_rgb;
    uint8_t *rgb;
    int stream, turns; /* quarter turns, clockwise */
    int frames, at;    /* that there should be; number of the next one */
    int64_t *times;    /* [frames], ascending, in the track's units; NULL: not known */
    int room;
    bool leaps;        /* times have been right so far */
    int width, height; /* of a frame before it is turned */
    bool flushed;      /* the decoder knows that no packet follows */
} movie;

/* ---- failures ------------------------------------------------------------------------------------------ */

/* libav's code as ours. */
static vlcache_status failure(const movie *m, int code, const char *doing) {
    char why[AV_ERROR_MAX_STRING_SIZE] = "";
    if (code == AVERROR(ENOMEM)) return vlci_fail_memory("video's decoding");
    vlci_libav.av_strerror(code, why, sizeof why);
    if (code == AVERROR_DECODER_NOT_FOUND)
        return vlci_fail_file(VLCACHE_E_UNSUPPORTED, m->name, AGAIN,
                              "libavcodec has no decoder for this video (%s)", doing);
    bool file = code == AVERROR(EIO) || code == AVERROR(EACCES) || code == AVERROR(ENOENT);
    return vlci_fail_file(file ? VLCACHE_E_IO : VLCACHE_E_FORMAT, m->name, AGAIN, "%s (%s)", doing, why);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static bool too_large(int64_t width, int64_t height) {
    return width > UINT16_MAX || height > UINT16_MAX || width * height > (int64_t)VLCACHE_IMAGE_MAX_PIXELS;
}

static vlcache_status refuse_size(const movie *m, int width, int height) {
    return vlci_fail_file(VLCACHE_E_FORMAT, m->name, "make it smaller",
                          "has frames of %d x %d pixels, at most %u are read", width, height,
                          VLCACHE_IMAGE_MAX_PIXELS);
}

/* What the file says of its tracks, before any memory is taken for it. */
static vlcache_status check_claims(const movie *m) {
    for (unsigned i = 0; i < m->format->nb_streams; i++) {
        const AVStream *stream = m->format->streams[i];
        const AVCodecParameters *track = stream->codecpar;
        if (track->codec_type != AVMEDIA_TYPE_VIDEO) continue;
        if (too_large(track->width, track->height)) return refuse_size(m, track->width, track->height);
        if (stream->nb_frames > VLCACHE_VIDEO_MAX_FRAMES)
            return vlci_fail_file(VLCACHE_E_FORMAT, m->name, "cut it, or take fewer frames a second",
                                  "names %lld frames, at most %d are read", (long long)stream->nb_frames,
                                  VLCACHE_VIDEO_MAX_FRAMES);
    }
    return VLCACHE_OK;
}

/* Decodes what it takes to know the tracks, by decoders that keep to our bounds. */
static int find_streams(movie *m) {
    unsigned n = m->format->nb_streams;
    AVDictionary **bounds = vlci_calloc(n, sizeof *bounds);
    int code = bounds ? 0 : AVERROR(ENOMEM);
    for (unsigned i = 0; i < n && code >= 0; i++)
        code = vlci_libav.av_dict_set_int(&bounds[i], "max_pixels", VLCACHE_IMAGE_MAX_PIXELS, 0);
    if (code >= 0) code = vlci_libav.avformat_find_stream_info(m->format, bounds);
    for (unsigned i = 0; bounds && i < n; i++) vlci_libav.av_dict_free(&bounds[i]);
    vlci_free(bounds);
    return code;
}

static vlcache_status open_format(movie *m) {
    AVDictionary *options = NULL;
    int code = vlci_libav.av_dict_set(&options, "protocol_whitelist", "file", 0);
    if (code >= 0) code = vlci_libav.av_dict_set(&options, "format_whitelist", demuxers, 0);
    if (code >= 0) code = vlci_libav.avformat_open_input(&m->format, m->url, NULL, &options);
    vlci_libav.av_dict_free(&options);
    if (code < 0) return failure(m, code, "is no video that can be read");
    vlcache_status status = check_claims(m);
    if (status) return status;
    code = find_streams(m);
    if (code < 0) return failure(m, code, "has no streams that can be read");
    status = check_claims(m);
    if (status) return status;
    m->stream = vlci_libav.av_find_best_stream(m->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (m->stream < 0 || m->format->streams[m->stream]->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return vlci_fail_file(VLCACHE_E_FORMAT, m->name, "give a file with a video track",
                              "holds no video (of %u streams)", m->format->nb_streams);
    for (unsigned i = 0; i < m->format->nb_streams; i++)
        if ((int)i != m->stream) m->format->streams[i]->discard = AVDISCARD_ALL;
    return VLCACHE_OK;
}

static bool ours(const movie *m) {
    return m->packet->stream_index == m->stream;
}

/* The time of one more frame; times that are missing make all useless. */
static vlcache_status note_time(movie *m, int64_t time) {
    m->leaps = m->leaps && time != AV_NOPTS_VALUE;
    if (m->frames == m->room && m->leaps) {
        int64_t *grown = vlci_realloc(m->times, 2 * (size_t)m->room + 256, sizeof *grown);
        if (!grown) return vlci_fail_memory("times of frames");
        m->times = grown;
        m->room = 2 * m->room + 256;
    }
    if (m->leaps) m->times[m->frames] = time;
    m->frames++;
    return VLCACHE_OK;
}

static int by_time(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void sort_times(movie *m) {
    if (m->leaps) qsort(m->times, (size_t)m->frames, sizeof *m->times, by_time);
    for (int i = 1; i < m->frames && m->leaps; i++) m->leaps = m->times[i] > m->times[i - 1];
}

/* Packets that become frames. Their number may be less than the file's own, which then ends too early. */
static vlcache_status count(movie *m) {
    int code = 0;
    vlcache_status status = VLCACHE_OK;
    m->leaps = true;
    while (!status && m->frames <= VLCACHE_VIDEO_MAX_FRAMES &&
           (code = vlci_libav.av_read_frame(m->format, m->packet)) >= 0) {
        if (ours(m) && m->packet->size > 0 && !(m->packet->flags & AV_PKT_FLAG_DISCARD))
            status = note_time(m, m->packet->pts);
        vlci_libav.av_packet_unref(m->packet);
    }
    if (status) return status;
    int64_t said = m->format->streams[m->stream]->nb_frames;
    if (m->frames > VLCACHE_VIDEO_MAX_FRAMES)
        return vlci_fail_file(VLCACHE_E_FORMAT, m->name, "cut it, or take fewer frames a second",
                              "has more than %d frames", VLCACHE_VIDEO_MAX_FRAMES);
    if (code < 0 && code != AVERROR_EOF) return failure(m, code, "cannot be read to its end");
    if (!m->frames || m->frames < said - said / 50)
        return vlci_fail_file(VLCACHE_E_FORMAT, m->name, AGAIN,
                              "has %d of the %lld frames that it names: it is truncated", m->frames,
                              (long long)said);
    sort_times(m);
    return VLCACHE_OK;
}

static double rate(const AVStream *stream, int frames) {
    double fps = av_q2d(stream->avg_frame_rate);
    if (!(stream->avg_frame_rate.den && fps > 0))
        fps = stream->r_frame_rate.den ? av_q2d(stream->r_frame_rate) : 0;
    double seconds = stream->duration > 0 ? (double)stream->duration * av_q2d(stream->time_base) : 0;
    if (!(fps > 0) && seconds > 0) fps = frames / seconds;
    return fps > 0 ? fps : USUAL_FPS;
}

static const int32_t *display_matrix(const AVStream *stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
    const AVPacketSideData *data =
        vlci_libav.av_packet_side_data_get(stream->codecpar->coded_side_data,
                                           stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return data && data->size >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)data->data : NULL;
#else
    size_t bytes = 0;
    const uint8_t *data = vlci_libav.av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &bytes);
    return data && bytes >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)data : NULL;
#endif
}

/* The matrix turns counter-clockwise by the negative of what players turn clockwise. */
static int quarter_turns(const AVStream *stream) {
    const int32_t *matrix = display_matrix(stream);
    double angle = matrix ? -vlci_libav.av_display_rotation_get(matrix) : 0;
    return isfinite(angle) ? (((int)lround(angle / 90) % 4) + 4) % 4 : 0;
}

static vlcache_status open_codec(movie *m) {
    const AVStream *stream = m->format->streams[m->stream];
    const AVCodec *decoder = vlci_libav.avcodec_find_decoder(stream->codecpar->codec_id);
    if (!decoder)
        return failure(m, AVERROR_DECODER_NOT_FOUND, vlci_libav.avcodec_get_name(stream->codecpar->codec_id));
    m->codec = vlci_libav.avcodec_alloc_context3(decoder);
    if (!m->codec) return vlci_fail_memory("video's decoding");
    int code = vlci_libav.avcodec_parameters_to_context(m->codec, stream->codecpar);
    m->codec->pkt_timebase = stream->time_base;
    m->codec->max_pixels = VLCACHE_IMAGE_MAX_PIXELS;
    m->codec->thread_count = THREADS;
    m->turns = quarter_turns(stream);
    if (code >= 0) code = vlci_libav.avcodec_open2(m->codec, decoder, NULL);
    return code < 0 ? failure(m, code, "the decoder cannot be opened") : VLCACHE_OK;
}

/* The file from its beginning. */
static vlcache_status rewind_movie(movie *m) {
    vlci_libav.avcodec_free_context(&m->codec);
    vlci_libav.avformat_close_input(&m->format);
    vlci_libav.av_frame_unref(m->frame);
    m->at = 0;
    m->flushed = false;
    vlcache_status status = open_format(m);
    return status ? status : open_codec(m);
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

/* A packet of the track, or the end, goes to the decoder. */
static vlcache_status feed(movie *m) {
    int code = vlci_libav.av_read_frame(m->format, m->packet);
    if (code == AVERROR_EOF) {
        if (m->flushed) return vlci_fail_file(VLCACHE_E_FORMAT, m->name, AGAIN, "ends too early");
        m->flushed = true;
        code = vlci_libav.avcodec_send_packet(m->codec, NULL);
    } else if (code >= 0) {
        code = ours(m) ? vlci_libav.avcodec_send_packet(m->codec, m->packet) : 0;
        vlci_libav.av_packet_unref(m->packet);
    }
    return code < 0 ? failure(m, code, VLCI_VALUE("frame %d cannot be decoded", m->at)) : VLCACHE_OK;
}

/* `*ended`: the decoder has no more. */
static vlcache_status decode_next(movie *m, bool *ended) {
    vlcache_status status = VLCACHE_OK;
    for (*ended = false; !status;) {
        int code = vlci_libav.avcodec_receive_frame(m->codec, m->next);
        if (code >= 0) {
            vlci_libav.av_frame_unref(m->frame);
            vlci_libav.av_frame_move_ref(m->frame, m->next);
            m->at++;
            return VLCACHE_OK;
        }
        *ended = code == AVERROR_EOF;
        if (*ended) return VLCACHE_OK;
        status = code == AVERROR(EAGAIN) ? feed(m)
                                         : failure(m, code, VLCI_VALUE("frame %d cannot be decoded", m->at));
    }
    return status;
}

/* From the key frame before frame `index`; where that does not work out, from the beginning from now on. */
static vlcache_status leap(movie *m, int index) {
    bool ended = false;
    int code = vlci_libav.av_seek_frame(m->format, m->stream, m->times[index], AVSEEK_FLAG_BACKWARD);
    vlci_libav.avcodec_flush_buffers(m->codec);
    m->flushed = false;
    vlcache_status status = code < 0 ? VLCACHE_OK : decode_next(m, &ended);
    if (status == VLCACHE_E_NO_MEMORY) return status;
    const int64_t *found = status || code < 0 || ended
                               ? NULL
                               : bsearch(&m->frame->best_effort_timestamp, m->times, (size_t)m->frames,
                                         sizeof *m->times, by_time);
    m->leaps = found && found <= m->times + index;
    if (!m->leaps) return rewind_movie(m);
    m->at = (int)(found - m->times) + 1;
    return VLCACHE_OK;
}

static vlcache_status decode_to(movie *m, int index, bool *ended) {
    vlcache_status status = VLCACHE_OK;
    *ended = false;
    while (!status && m->at <= index && !*ended) status = decode_next(m, ended);
    return status;
}

/* Near what is decoded already, or over a key frame. */
static vlcache_status approach(movie *m, int index, bool *ended) {
    bool back = index < m->at - 1, far = back || index >= m->at + LEAP;
    vlcache_status status = VLCACHE_OK;
    if (far && m->leaps && m->frame->buf[0])
        status = leap(m, index);
    else if (back)
        status = rewind_movie(m);
    return status ? status : decode_to(m, index, ended);
}

/* Frame `index` is the last decoded one. A decoder may hold back a few that were counted: the last one it
 * gave stands for them. */
static vlcache_status go_to(movie *m, int index) {
    bool ended = false;
    vlcache_status status = approach(m, index, &ended);
    bool meant = !m->leaps || (!status && !ended && m->frame->best_effort_timestamp == m->times[index]);
    if (!meant && status != VLCACHE_E_NO_MEMORY) { /* by way of a leap, or not: count from the beginning */
        m->leaps = false;
        status = rewind_movie(m);
        if (!status) status = decode_to(m, index, &ended);
    }
    if (status || !ended || (m->at && m->at >= m->frames - 2 - m->frames / 100)) return status;
    return vlci_fail_file(VLCACHE_E_FORMAT, m->name, AGAIN,
                          "frame %d cannot be decoded, only %d of %d can: it is damaged", index, m->at,
                          m->frames);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

static size_t row_bytes(const movie *m) {
    return ((size_t)m->width * 3 + ALIGN - 1) / ALIGN * ALIGN;
}

/* Of the matrix and range that the frame names. */
static int set_colours(struct SwsContext *to_rgb, const AVFrame *frame) {
    int space = frame->colorspace == AVCOL_SPC_UNSPECIFIED || frame->colorspace == AVCOL_SPC_RGB
                    ? SWS_CS_DEFAULT
                    : (int)frame->colorspace;
    bool full = frame->color_range == AVCOL_RANGE_JPEG;
    const int *matrix = vlci_libav.sws_getCoefficients(space);
    return vlci_libav.sws_setColorspaceDetails(
        to_rgb, matrix, full, vlci_libav.sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
}

/* The frame as RGB rows of row_bytes(), in the size of the first. */
static vlcache_status convert(movie *m) {
    const AVFrame *f = m->frame;
    uint8_t *to[4] = {m->rgb};
    int strides[4] = {(int)row_bytes(m)};
    if (f->width < 1 || f->height < 1 || f->format < 0)
        return vlci_fail_file(VLCACHE_E_FORMAT, m->name, AGAIN, "frame %d has no pixels", m->at - 1);
    m->to_rgb = vlci_libav.sws_getCachedContext(m->to_rgb, f->width, f->height, (enum AVPixelFormat)f->format,
                                                m->width, m->height, AV_PIX_FMT_RGB24,
                                                SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND, NULL,
                                                NULL, NULL);
    if (!m->to_rgb)
        return vlci_fail_file(VLCACHE_E_UNSUPPORTED, m->name, AGAIN,
                              "libswscale cannot make RGB of its pixel format %d", f->format);
    set_colours(m->to_rgb, f); /* of what it does not know, the usual one stays */
    int code = vlci_libav.sws_scale(m->to_rgb, (const uint8_t *const *)f->data, f->linesize, 0, f->height, to,
                                    strides);
    return code < 0 ? failure(m, code, "a frame cannot be made RGB") : VLCACHE_OK;
}

/* Where pixel (x, y) of the upright picture lies in the frame. */
static const uint8_t *turned(const movie *m, int x, int y) {
    int column = x, row = y;
    if (m->turns == 1) column = y, row = m->height - 1 - x;
    if (m->turns == 2) column = m->width - 1 - x, row = m->height - 1 - y;
    if (m->turns == 3) column = m->width - 1 - y, row = x;
    return m->rgb + (size_t)row * row_bytes(m) + (size_t)column * 3;
}

static vlcache_status turn(const movie *m, vlcache_image **out) {
    int width = m->turns % 2 ? m->height : m->width, height = m->turns % 2 ? m->width : m->height;
    uint8_t *upright = vlci_alloc((size_t)width * (size_t)height, 3);
    if (!upright) return vlci_fail_memory("frame of a video");
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memcpy(upright + ((size_t)y * (size_t)width + (size_t)x) * 3, turned(m, x, y), 3);
    vlcache_status status = vlcache_image_from_rgb(upright, width, height, 0, out);
    vlci_free(upright);
    return status;
}

static vlcache_status movie_read(void *self, int index, vlcache_image **out) {
    movie *m = self;
    vlcache_status status = go_to(m, index);
    if (!status) status = convert(m);
    if (status) return status;
    return m->turns ? turn(m, out) : vlcache_image_from_rgb(m->rgb, m->width, m->height, row_bytes(m), out);
}

static void movie_close(void *self) {
    movie *m = self;
    if (!m) return;
    vlci_libav.avcodec_free_context(&m->codec);
    vlci_libav.avformat_close_input(&m->format);
    vlci_libav.av_packet_free(&m->packet);
    vlci_libav.av_frame_free(&m->frame);
    vlci_libav.av_frame_free(&m->next);
    vlci_libav.sws_freeContext(m->to_rgb);
    vlci_libav.av_free(m->rgb);
    vlci_free(m->times);
    vlci_free(m->url);
    vlci_free(m->name);
    vlci_free(m);
}

/* ---- the source ---------------------------------------------------------------------------------------- */

static const vlci_source_kind movie_kind = {movie_read, movie_close};

static vlcache_status create(const char *path, movie **out) {
    movie *m = *out = vlci_calloc(1, sizeof *m);
    if (!m) return vlci_fail_memory("video");
    m->url = vlci_format("file:%s", path);
    m->name = vlci_strdup(path);
    m->packet = vlci_libav.av_packet_alloc();
    m->frame = vlci_libav.av_frame_alloc();
    m->next = vlci_libav.av_frame_alloc();
    bool whole = m->url && m->name && m->packet && m->frame && m->next;
    return whole ? VLCACHE_OK : vlci_fail_memory("video");
}

/* The first frame says how large all are. */
static vlcache_status measure(movie *m) {
    vlcache_status status = go_to(m, 0);
    if (status) return status;
    m->width = m->frame->width;
    m->height = m->frame->height;
    if (m->width < 1 || m->height < 1 || too_large(m->width, m->height))
        return refuse_size(m, m->width, m->height);
    m->rgb = vlci_libav.av_malloc(row_bytes(m) * (size_t)m->height + SPARE);
    return m->rgb ? VLCACHE_OK : vlci_fail_memory("frame of a video");
}

static vlcache_status open_movie(movie *m, vlci_source *out) {
    vlcache_status status = open_format(m);
    if (!status) status = count(m);
    double fps = status ? 0 : rate(m->format->streams[m->stream], m->frames);
    if (!status && !(fps >= VLCACHE_VIDEO_MIN_FPS && fps <= VLCACHE_VIDEO_MAX_FPS))
        return vlci_fail_file(VLCACHE_E_FORMAT, m->name, AGAIN,
                              "has %g frames a second; from %g to %g are read", fps, VLCACHE_VIDEO_MIN_FPS,
                              VLCACHE_VIDEO_MAX_FPS);
    if (!status) status = rewind_movie(m);
    if (!status) status = measure(m);
    bool lies = m->turns % 2;
    *out = (vlci_source){.kind = &movie_kind,
                         .self = m,
                         .info = {.width = lies ? m->height : m->width,
                                  .height = lies ? m->width : m->height,
                                  .frames = m->frames,
                                  .fps = fps}};
    return status;
}

#endif

/* A pipe would be waited for, and cannot be read twice. */
static vlcache_status check_file(const char *path) {
    struct stat about;
    if (stat(path, &about))
        return vlci_fail_file(vlci_errno_status(errno), path, NULL, "cannot be read (%s)", strerror(errno));
    if (S_ISREG(about.st_mode)) return VLCACHE_OK;
    return vlci_fail_file(VLCACHE_E_IO, path,
                          S_ISDIR(about.st_mode) ? "a folder of pictures is opened as frames (--frames)"
                                                 : "copy it into a file first",
                          "is no regular file");
}

vlcache_status vlci_movie_open(const char *path, vlci_source *out) {
    vlcache_status status = check_file(path);
    if (!status && !vlcache_video_reads_files())
        status = vlci_fail_file(VLCACHE_E_UNSUPPORTED, path,
                                "install " VLCI_LIBAV_PACKAGES
                                ", or make pictures of it (ffmpeg -i FILE -vf fps=2 "
                                "frames/%05d.png) and give those (--frames)",
                                VLCI_LIBAV_MISSING);
    if (status) return status;
#ifdef VLCI_WITH_LIBAV
    movie *m;
    status = create(path, &m);
    if (!status) status = open_movie(m, out);
    if (status) movie_close(m);
#endif
    (void)out;
    return status;
}
