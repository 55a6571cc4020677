/* Calls mlic.h as its comments forbid and allow; prints what is not as they say:
 *
 *     api_test BUNDLE LIBONNXRUNTIME
 */
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
    free(plain);
    free(spaced);
    free(decoded);
    free(data);
    free(same);
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
    mlic_close(codec);
    mlic_close(NULL);
    EXPECT(strcmp(mlic_status_name(MLIC_CORRUPT_STREAM), "MLIC_CORRUPT_STREAM") == 0);
    EXPECT(strcmp(mlic_status_name((mlic_status)63), "unknown status") == 0);
    printf("libmlic %s: %d failures\n", mlic_version(), failures);
    return failures != 0;
}
