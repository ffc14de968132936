/*
 * film.c - frames -> RGB -> the encoder's pixels -> packets -> file.
 */
#include "support/film/film.h"

#include <check.h>
#include <string.h>

void film_pixel(int frame, int x, int y, uint8_t rgb[3]) {
    rgb[0] = (uint8_t)(16 + 5 * frame);
    rgb[1] = (uint8_t)(40 + 3 * x);
    rgb[2] = (uint8_t)(200 - 4 * y);
}

#ifdef VLCI_WITH_LIBAV
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <libswscale/swscale.h>

#define av(call)                                                                                             \
    do {                                                                                                     \
        int av_code_ = (call);                                                                               \
        ck_assert_msg(av_code_ >= 0, "%s: %s", #call, av_err2str(av_code_));                                 \
    } while (0)

bool film_can(void) {
    return true;
}

static void set_turns(AVStream *stream, int turns) {
    size_t bytes = 9 * sizeof(int32_t);
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
    AVPacketSideData *data =
        av_packet_side_data_new(&stream->codecpar->coded_side_data, &stream->codecpar->nb_coded_side_data,
                                AV_PKT_DATA_DISPLAYMATRIX, bytes, 0);
    int32_t *matrix = (int32_t *)(void *)data->data;
#else
    int32_t *matrix = (int32_t *)(void *)av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, bytes);
#endif
    av_display_rotation_set(matrix, 90.0 * turns);
}

static void write_packets(AVFormatContext *to, AVCodecContext *codec, AVPacket *packet) {
    while (avcodec_receive_packet(codec, packet) >= 0) {
        av_packet_rescale_ts(packet, codec->time_base, to->streams[0]->time_base);
        packet->stream_index = 0;
        packet->duration = av_rescale_q(1, codec->time_base, to->streams[0]->time_base);
        av(av_interleaved_write_frame(to, packet));
    }
}

static void draw(const film *f, int index, AVFrame *rgb, AVFrame *out) {
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++)
            film_pixel(index, x, y, rgb->data[0] + y * rgb->linesize[0] + 3 * x);
    struct SwsContext *scale =
        sws_getContext(f->width, f->height, AV_PIX_FMT_RGB24, f->width, f->height,
                       (enum AVPixelFormat)out->format, SWS_BICUBIC | SWS_ACCURATE_RND, NULL, NULL, NULL);
    ck_assert_ptr_nonnull(scale);
    av(sws_scale(scale, (const uint8_t *const *)rgb->data, rgb->linesize, 0, f->height, out->data,
                 out->linesize));
    sws_freeContext(scale);
    out->pts = index;
}

static AVFrame *room(const film *f, enum AVPixelFormat format) {
    AVFrame *frame = av_frame_alloc();
    frame->format = format;
    frame->width = f->width;
    frame->height = f->height;
    av(av_frame_get_buffer(frame, 0));
    return frame;
}

static AVCodecContext *open_encoder(const film *f, const AVFormatContext *to) {
    const AVCodec *encoder = avcodec_find_encoder_by_name(f->codec);
    ck_assert_msg(encoder != NULL, "no encoder %s", f->codec);
    AVCodecContext *codec = avcodec_alloc_context3(encoder);
    codec->width = f->width;
    codec->height = f->height;
    codec->time_base = (AVRational){1, f->fps};
    codec->framerate = (AVRational){f->fps, 1};
    codec->pix_fmt = strcmp(f->codec, "png") ? AV_PIX_FMT_YUV420P : AV_PIX_FMT_RGB24;
    codec->thread_count = 1;
    codec->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL; /* mjpeg */
    codec->flags |= AV_CODEC_FLAG_QSCALE;
    codec->global_quality = 2 * FF_QP2LAMBDA;
    if (strcmp(f->codec, "mpeg4") == 0) {
        codec->max_b_frames = 2;
        codec->gop_size = 12;
    }
    if (to->oformat->flags & AVFMT_GLOBALHEADER) codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    av(avcodec_open2(codec, encoder, NULL));
    return codec;
}

void film_write(const char *path, const film *f) {
    AVFormatContext *to = NULL;
    av_log_set_level(AV_LOG_QUIET);
    av(avformat_alloc_output_context2(&to, NULL, NULL, path));
    AVCodecContext *codec = open_encoder(f, to);
    AVStream *stream = avformat_new_stream(to, NULL);
    av(avcodec_parameters_from_context(stream->codecpar, codec));
    stream->time_base = codec->time_base;
    stream->avg_frame_rate = codec->framerate;
    if (f->turns) set_turns(stream, f->turns);
    av(avio_open(&to->pb, path, AVIO_FLAG_WRITE));
    av(avformat_write_header(to, NULL));
    AVFrame *rgb = room(f, AV_PIX_FMT_RGB24);
    AVPacket *packet = av_packet_alloc();
    for (int i = 0; i < f->frames; i++) {
        AVFrame *frame = room(f, codec->pix_fmt);
        draw(f, i, rgb, frame);
        av(avcodec_send_frame(codec, frame));
        write_packets(to, codec, packet);
        av_frame_free(&frame);
    }
    av(avcodec_send_frame(codec, NULL));
    write_packets(to, codec, packet);
    av(av_write_trailer(to));
    av_packet_free(&packet);
    av_frame_free(&rgb);
    avcodec_free_context(&codec);
    avio_closep(&to->pb);
    avformat_free_context(to);
}
#else
bool film_can(void) {
    return false;
}

void film_write(const char *path, const film *f) {
    (void)f;
    ck_abort_msg("%s: this build writes no films", path);
}
#endif
