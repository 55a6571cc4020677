/* Decodes a .mlic file to a PPM picture:
 *
 *     decode_to_ppm BUNDLE photo.mlic photo.ppm [LIBONNXRUNTIME]
 */
#include <mlic.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what, const char *why) {
    fprintf(stderr, "decode_to_ppm: %s: %s\n", what, why);
    return 1;
}

/* Returns the contents of a file, which the caller frees, or NULL. */
static unsigned char *read_file(const char *path, size_t *size) {
    const size_t block = 1 << 20;
    unsigned char *data = NULL;
    size_t got = 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    *size = 0;
    do {
        unsigned char *larger = realloc(data, *size + block);
        if (larger == NULL) break;
        data = larger;
        got = fread(data + *size, 1, block, file);
        *size += got;
    } while (got == block);
    if (got == block || ferror(file)) { /* no memory, or no file */
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

int main(int argc, char **argv) {
    mlic_codec *codec = NULL;
    mlic_options options = MLIC_OPTIONS_INIT;
    mlic_header header;
    unsigned char *data, *pixels = NULL;
    size_t size, pixels_size;
    FILE *out = NULL;
    int result = 1;
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: decode_to_ppm BUNDLE photo.mlic photo.ppm [LIBONNXRUNTIME]\n");
        return 2;
    }
    data = read_file(argv[2], &size);
    if (data == NULL) return fail(argv[2], "cannot be read");
    if (argc == 5) options.onnxruntime = argv[4];
    if (mlic_read_header(data, size, 0, &header) != MLIC_OK) {
        fail(argv[2], mlic_last_error());
        goto done;
    }
    pixels_size = (size_t)header.width * header.height * 3;
    pixels = malloc(pixels_size);
    if (pixels == NULL) {
        fail(argv[2], "no memory for the picture");
        goto done;
    }
    if (mlic_open(argv[1], &options, &codec) != MLIC_OK) {
        fail(argv[1], mlic_last_error());
        goto done;
    }
    if (mlic_decode(codec, data, size, pixels, pixels_size, 0) != MLIC_OK) {
        fail(argv[2], mlic_last_error());
        goto done;
    }
    out = fopen(argv[3], "wb");
    if (out == NULL || fprintf(out, "P6\n%u %u\n255\n", (unsigned)header.width, (unsigned)header.height) < 0 ||
        fwrite(pixels, 1, pixels_size, out) != pixels_size) {
        fail(argv[3], "cannot be written");
        goto done;
    }
    result = 0;
done:
    if (out != NULL && fclose(out) != 0) result = fail(argv[3], "cannot be written");
    mlic_close(codec);
    free(pixels);
    free(data);
    return result;
}
