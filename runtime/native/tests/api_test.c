/* Calls mlic.h as its comments forbid and allow; prints what is not as they say:
 *
 *     api_test BUNDLE LIBONNXRUNTIME
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mlic.h"

static int failures = 0;

#define EXPECT(condition)                                                                               \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            printf("line %d: %s (last error: %s)\n", __LINE__, #condition, mlic_last_error());          \
            ++failures;                                                                                 \
        }                                                                                               \
    } while (0)

enum { WIDTH = 37, HEIGHT = 21, STRIDE = 3 * WIDTH + 5, SIZE = 3 * WIDTH * HEIGHT };

static void fill(unsigned char *pixels, size_t stride) {
    int row, column;
    for (row = 0; row < HEIGHT; ++row)
        for (column = 0; column < 3 * WIDTH; ++column)
            pixels[(size_t)row * stride + (size_t)column] = (unsigned char)(row * 11 + column * 7);
}

static void check_opening(const char *bundle, const char *library) {
    mlic_codec *codec = NULL;
    mlic_options options = MLIC_OPTIONS_INIT;
    mlic_file file = {"manifest.json", "{}", 2};
    options.onnxruntime = library;
    EXPECT(strcmp(mlic_last_error(), "") == 0);
    EXPECT(mlic_open(NULL, &options, &codec) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_open(bundle, &options, NULL) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_open("no such folder", &options, &codec) == MLIC_BAD_BUNDLE);
    EXPECT(strstr(mlic_last_error(), "no such folder") != NULL);
    EXPECT(mlic_open_memory(NULL, 0, &options, &codec) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_open_memory(&file, 0, &options, &codec) == MLIC_BAD_BUNDLE);
    EXPECT(mlic_open_memory(&file, 1, &options, &codec) == MLIC_BAD_BUNDLE);
    file.data = NULL;
    EXPECT(mlic_open_memory(&file, 1, &options, &codec) == MLIC_INVALID_ARGUMENT);
    options.threads = -1;
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_INVALID_ARGUMENT);
    options.threads = 0;
    options.struct_size = 0;
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_INVALID_ARGUMENT);
    options.struct_size = sizeof options;
    options.onnxruntime = "/no/such/libonnxruntime.so";
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_ENGINE_MISSING);
    EXPECT(strstr(mlic_last_error(), "/no/such/libonnxruntime.so") != NULL);
    EXPECT(codec == NULL);
}

static void check_regions(mlic_codec *codec, const unsigned char *data, size_t size) {
    enum { X = 5, Y = 3, PART_WIDTH = 20, PART_HEIGHT = 11, PART = 3 * PART_WIDTH * PART_HEIGHT };
    unsigned char *whole = malloc(SIZE), *part = malloc(PART);
    size_t row;
    memset(part, 77, PART);
    EXPECT(mlic_decode(codec, data, size, whole, SIZE, 0) == MLIC_OK);
    EXPECT(mlic_decode_region(codec, data, size, WIDTH, 0, 1, 1, part, PART, 0) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_decode_region(codec, data, size, 0, 0, 0, 1, part, PART, 0) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_decode_region(codec, data, size, UINT32_MAX, 0, 2, 1, part, PART, 0) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_decode_region(codec, data, size, X, Y, PART_WIDTH, PART_HEIGHT, part, PART - 1, 0) ==
           MLIC_BUFFER_TOO_SMALL);
    EXPECT(mlic_decode_region(codec, data, size, X, Y, PART_WIDTH, PART_HEIGHT, NULL, PART, 0) ==
           MLIC_INVALID_ARGUMENT);
    for (row = 0; row < PART; ++row) EXPECT(part[row] == 77);
    EXPECT(mlic_decode_region(codec, data, size, X, Y, PART_WIDTH, PART_HEIGHT, part, PART, 0) == MLIC_OK);
    for (row = 0; row < PART_HEIGHT; ++row)
        EXPECT(memcmp(part + row * 3 * PART_WIDTH, whole + ((row + Y) * WIDTH + X) * 3, 3 * PART_WIDTH) == 0);
    free(whole);
    free(part);
}

static void check_coding(mlic_codec *codec) {
    unsigned char *plain = malloc(SIZE), *spaced = malloc(STRIDE * HEIGHT), *decoded = malloc(STRIDE * HEIGHT);
    unsigned char *data, *same;
    size_t bound = 0, size = 0, needed = 0, place;
    mlic_header header;
    fill(plain, 3 * WIDTH);
    memset(spaced, 255, STRIDE * HEIGHT);
    fill(spaced, STRIDE);
    EXPECT(mlic_encode_bound(codec, 0, HEIGHT, &bound) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode_bound(codec, 1U << 20, 1U << 20, &bound) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode_bound(codec, WIDTH, HEIGHT, &bound) == MLIC_OK);
    data = malloc(bound);
    same = malloc(bound);
    EXPECT(mlic_encode(codec, plain, WIDTH, HEIGHT, 0, data, bound, &size) == MLIC_OK);
    EXPECT(size <= bound);
    EXPECT(mlic_encode(codec, spaced, WIDTH, HEIGHT, STRIDE, same, size, &needed) == MLIC_OK);
    EXPECT(needed == size && memcmp(data, same, size) == 0);
    EXPECT(mlic_encode(codec, plain, WIDTH, HEIGHT, 0, same, size - 1, &needed) == MLIC_BUFFER_TOO_SMALL);
    EXPECT(needed == size);
    EXPECT(mlic_encode(codec, plain, WIDTH, HEIGHT, 3 * WIDTH - 1, same, bound, &needed) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode(codec, plain, WIDTH, HEIGHT, SIZE_MAX, same, bound, &needed) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode(codec, plain, WIDTH, 0, 0, same, bound, &needed) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode(codec, NULL, WIDTH, HEIGHT, 0, same, bound, &needed) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_encode(NULL, plain, WIDTH, HEIGHT, 0, same, bound, &needed) == MLIC_INVALID_ARGUMENT);

    EXPECT(mlic_read_header(data, 24, 0, &header) == MLIC_OK);
    EXPECT(header.width == WIDTH && header.height == HEIGHT);
    EXPECT(memcmp(header.model_id, mlic_model_id(codec), 8) == 0);
    EXPECT(mlic_read_header(data, 23, 0, &header) == MLIC_TRUNCATED_STREAM);
    EXPECT(mlic_read_header(data, size, WIDTH * HEIGHT - 1, &header) == MLIC_UNSUPPORTED_STREAM);
    EXPECT(mlic_read_header("GIF89a", 6, 0, &header) == MLIC_UNSUPPORTED_STREAM);
    EXPECT(mlic_read_header(NULL, 0, 0, &header) == MLIC_TRUNCATED_STREAM);
    EXPECT(mlic_read_header(NULL, 1, 0, &header) == MLIC_INVALID_ARGUMENT);

    memset(decoded, 77, STRIDE * HEIGHT);
    EXPECT(mlic_decode(codec, data, size, decoded, SIZE - 1, 0) == MLIC_BUFFER_TOO_SMALL);
    EXPECT(mlic_decode(codec, data, size, decoded, STRIDE * HEIGHT, 3 * WIDTH - 1) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_decode(codec, data, size - 1, decoded, STRIDE * HEIGHT, 0) == MLIC_TRUNCATED_STREAM);
    data[size - 1] ^= 1;
    EXPECT(mlic_decode(codec, data, size, decoded, STRIDE * HEIGHT, 0) == MLIC_CORRUPT_STREAM);
    data[size - 1] ^= 1;
    for (place = 0; place < STRIDE * HEIGHT; ++place) EXPECT(decoded[place] == 77);
    EXPECT(mlic_decode(codec, data, size, plain, SIZE, 0) == MLIC_OK);
    EXPECT(mlic_decode(codec, data, size, decoded, STRIDE * (HEIGHT - 1) + 3 * WIDTH, STRIDE) == MLIC_OK);
    for (place = 0; place < STRIDE * HEIGHT; ++place) {
        size_t row = place / STRIDE, column = place % STRIDE;
        EXPECT(decoded[place] == (column < 3 * WIDTH ? plain[row * 3 * WIDTH + column] : 77));
    }
    check_regions(codec, data, size);
    free(plain);
    free(spaced);
    free(decoded);
    free(data);
    free(same);
}

static void check_metadata(mlic_codec *codec) {
    static const unsigned char exif[] = "II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0";
    static const char xmp[] = "tiff:Orientation=\"6\"";
    unsigned char *pixels = malloc(SIZE), *data, read[64];
    size_t bound = 0, more = 0, size = 0, found = 99;
    mlic_encode_options options = MLIC_ENCODE_OPTIONS_INIT, earlier;
    mlic_info info = MLIC_INFO_INIT;
    fill(pixels, 3 * WIDTH);
    options.icc_profile = "profile";
    options.icc_profile_size = 7;
    options.exif = exif;
    options.exif_size = sizeof exif - 1;
    options.xmp = xmp;
    options.xmp_size = sizeof xmp - 1;
    options.source = MLIC_SOURCE_DEEP | 64;
    EXPECT(mlic_encode_bound(codec, WIDTH, HEIGHT, &bound) == MLIC_OK);
    EXPECT(mlic_encode_bound_with(codec, WIDTH, HEIGHT, &options, &more) == MLIC_OK);
    EXPECT(more > bound);
    data = malloc(more);
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, 0, &options, data, more, &size) == MLIC_OK);
    EXPECT(mlic_read_info(data, size, 0, &info) == MLIC_OK);
    EXPECT(info.struct_size == sizeof info && info.width == WIDTH && info.height == HEIGHT);
    EXPECT(memcmp(info.model_id, mlic_model_id(codec), 8) == 0);
    EXPECT(info.arithmetic == data[5] && (info.arithmetic == MLIC_FLOAT32_SYNDROME || info.arithmetic == MLIC_INTEGER));
    EXPECT(info.source == MLIC_SOURCE_DEEP && info.cell_width == 0 && info.cell_height == 0);
    EXPECT(info.icc_profile_size == 7 && info.exif_size == sizeof exif - 1 && info.xmp_size == sizeof xmp - 1);
    EXPECT(mlic_read_metadata(data, size, 0, MLIC_ICC_PROFILE, read, 6, &found) == MLIC_BUFFER_TOO_SMALL);
    EXPECT(found == 7);
    EXPECT(mlic_read_metadata(data, size, 0, MLIC_ICC_PROFILE, read, 7, &found) == MLIC_OK);
    EXPECT(found == 7 && memcmp(read, "profile", 7) == 0);
    EXPECT(mlic_read_metadata(data, size, 0, MLIC_EXIF, read, sizeof read, &found) == MLIC_OK);
    EXPECT(found == sizeof exif - 1 && read[18] == 1 && memcmp(read, exif, 18) == 0);
    EXPECT(mlic_read_metadata(data, size, 0, MLIC_XMP, read, sizeof read, &found) == MLIC_OK);
    EXPECT(found == sizeof xmp - 1 && memcmp(read, "tiff:Orientation=\"1\"", found) == 0);
    EXPECT(mlic_read_metadata(data, size, 0, 3, read, sizeof read, &found) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_read_metadata(data, size, 0, -1, read, sizeof read, &found) == MLIC_INVALID_ARGUMENT);
    EXPECT(mlic_read_metadata(data, size - 1, 0, MLIC_XMP, read, sizeof read, &found) == MLIC_TRUNCATED_STREAM);
    EXPECT(mlic_read_info(data, size, 1, &info) == MLIC_UNSUPPORTED_STREAM);
    EXPECT(mlic_read_info(data, size - 1, 0, &info) == MLIC_TRUNCATED_STREAM);
    EXPECT(mlic_read_info(data, size, 0, NULL) == MLIC_INVALID_ARGUMENT);
    memset(&info, 77, sizeof info); /* a program that knows the first members alone */
    info.struct_size = offsetof(mlic_info, source);
    EXPECT(mlic_read_info(data, size, 0, &info) == MLIC_OK);
    EXPECT(info.struct_size == offsetof(mlic_info, source) && info.height == HEIGHT && info.source == 0x4D4D4D4D);
    info.struct_size = offsetof(mlic_info, arithmetic);
    EXPECT(mlic_read_info(data, size, 0, &info) == MLIC_OK);
    EXPECT(info.xmp_size == sizeof xmp - 1 && info.arithmetic == 0x4D4D4D4D);
    info.struct_size = 0;
    EXPECT(mlic_read_info(data, size, 0, &info) == MLIC_INVALID_ARGUMENT);

    earlier = options;
    earlier.struct_size = offsetof(mlic_encode_options, icc_profile);
    EXPECT(mlic_encode_bound_with(codec, WIDTH, HEIGHT, &earlier, &found) == MLIC_OK);
    EXPECT(found == bound);
    options.channels = 2;
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, 0, &options, data, more, &size) == MLIC_INVALID_ARGUMENT);
    options.channels = 1; /* grey rows are a third as long */
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, WIDTH, &options, data, more, &size) == MLIC_OK);
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, WIDTH - 1, &options, data, more, &size) ==
           MLIC_INVALID_ARGUMENT);
    info.struct_size = sizeof info;
    EXPECT(mlic_read_info(data, size, 0, &info) == MLIC_OK);
    EXPECT(info.source == (MLIC_SOURCE_DEEP | MLIC_SOURCE_GREY));
    EXPECT(mlic_decode(codec, data, size, pixels, SIZE, 0) == MLIC_OK);
    for (found = 0; found < SIZE; found += 3)
        EXPECT(pixels[found] == pixels[found + 1] && pixels[found] == pixels[found + 2]);
    options.xmp_size = 0;
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, 0, &options, data, more, &size) == MLIC_INVALID_ARGUMENT);
    options.xmp = NULL;
    options.xmp_size = 1;
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, 0, &options, data, more, &size) == MLIC_INVALID_ARGUMENT);
    options.xmp_size = 0;
    options.exif_size = 4;
    EXPECT(mlic_encode_with(codec, pixels, WIDTH, HEIGHT, 0, &options, data, more, &size) == MLIC_INVALID_ARGUMENT);
    EXPECT(strstr(mlic_last_error(), "EXIF is damaged") != NULL);
    free(pixels);
    free(data);
}

static void check_earlier_options(const char *bundle, const char *library) {
    mlic_codec *codec = NULL;
    mlic_options options = MLIC_OPTIONS_INIT;
    options.onnxruntime = library;
    options.tile_pixels = 1;
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_INVALID_ARGUMENT);
    EXPECT(strstr(mlic_last_error(), "tile_pixels is 1; expected 4096 or more") != NULL);
    options.struct_size = offsetof(mlic_options, tile_pixels); /* of version 0.1.0's first headers */
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_OK);
    mlic_close(codec);
    options.tile_pixels = 0;
    options.certificate_cache = (const char *)1; /* which such a program has something else in the place of */
    options.struct_size = offsetof(mlic_options, certificate_cache);
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_OK);
    mlic_close(codec);
    options.certificate_cache = "off";
    options.struct_size = sizeof options;
    options.tile_pixels = UINT64_MAX;
    options.latent_pixels = 4095;
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_INVALID_ARGUMENT);
    options.latent_pixels = UINT64_MAX;
    codec = NULL;
    EXPECT(mlic_open(bundle, &options, &codec) == MLIC_OK);
    mlic_close(codec);
}

int main(int argc, char **argv) {
    mlic_codec *codec = NULL;
    mlic_options options = MLIC_OPTIONS_INIT;
    if (argc != 3) return 2;
    check_opening(argv[1], argv[2]);
    options.onnxruntime = argv[2];
    EXPECT(mlic_open(argv[1], &options, &codec) == MLIC_OK);
    if (codec == NULL) return 1;
    EXPECT(mlic_prepare(codec, 1, 1) == MLIC_OK);
    EXPECT(mlic_prepare(NULL, 1, 1) == MLIC_INVALID_ARGUMENT);
    EXPECT(strncmp(mlic_engine(codec), "onnxruntime ", 12) == 0);
    check_coding(codec);
    check_metadata(codec);
    check_earlier_options(argv[1], argv[2]);
    mlic_close(codec);
    mlic_close(NULL);
    EXPECT(strcmp(mlic_status_name(MLIC_CORRUPT_STREAM), "MLIC_CORRUPT_STREAM") == 0);
    EXPECT(strcmp(mlic_status_name((mlic_status)63), "unknown status") == 0);
    printf("libmlic %s: %d failures\n", mlic_version(), failures);
    return failures != 0;
}
