/* libmlic: learned image codecs. Encodes RGB pictures to .mlic files and decodes them, with the bundles of the Python
 * package `mlic`, and writes the same bytes.
 *
 *     mlic_codec *codec = NULL;
 *     mlic_options options = MLIC_OPTIONS_INIT;
 *     options.onnxruntime = "/opt/onnxruntime/lib/libonnxruntime.so.1";
 *     if (mlic_open("mlicpp-n64-m192-medium", &options, &codec) != MLIC_OK)
 *         return fail(mlic_last_error());
 *
 *     mlic_header header;                                  // decode: the header tells the size
 *     if (mlic_read_header(file, file_size, 0, &header) != MLIC_OK)
 *         return fail(mlic_last_error());
 *     uint8_t *pixels = malloc((size_t)header.width * header.height * 3);
 *     if (mlic_decode(codec, file, file_size, pixels, (size_t)header.width * header.height * 3, 0) != MLIC_OK)
 *         return fail(mlic_last_error());
 *
 *     size_t size = 0;                                     // encode: the bound is known before, the size after
 *     mlic_encode_bound(codec, width, height, &size);
 *     uint8_t *data = malloc(size);
 *     if (mlic_encode(codec, pixels, width, height, 0, data, size, &size) != MLIC_OK)
 *         return fail(mlic_last_error());
 *
 *     mlic_close(codec);
 *
 * ONNX Runtime, 1.20 or later, is opened at run time; the program links libmlic alone.
 *
 * Errors. Functions that can fail return a mlic_status; their outputs are written only on MLIC_OK, unless their comment
 * says otherwise. mlic_last_error() has one line about it. No exception leaves the library, and nothing is printed.
 *
 * Memory. Buffers are the caller's. Pictures are 8-bit RGB, interleaved, rows from top to bottom; `stride` is the
 * number of bytes from one row to the next, 0 for rows that follow one another (3 * width).
 *
 * Threads. One codec may be used in several threads at once, and one is enough for any number of them: each call runs
 * with the threads of the codec. mlic_close() must be the last call, after all others have returned. A codec does not
 * survive fork(): the child must not use it.
 */
#ifndef MLIC_H
#define MLIC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MLIC_API __attribute__((visibility("default")))
#else
#define MLIC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What became of a call. Values never change; later versions may add some to a group of ten. */
typedef enum mlic_status {
    MLIC_OK = 0,
    /* the call */
    MLIC_INVALID_ARGUMENT = 10, /* a null pointer, a side of zero, a picture larger than `max_pixels` */
    MLIC_BUFFER_TOO_SMALL = 11,
    MLIC_OUT_OF_MEMORY = 12,
    /* the file */
    MLIC_TRUNCATED_STREAM = 20,   /* ends before its contents do */
    MLIC_CORRUPT_STREAM = 21,     /* contradicts itself */
    MLIC_UNSUPPORTED_STREAM = 22, /* another kind of file, another model, a newer version, or too large */
    /* the bundle */
    MLIC_BAD_BUNDLE = 30, /* missing, incomplete, inconsistent or of a newer format */
    /* the engine */
    MLIC_ENGINE_MISSING = 40,  /* ONNX Runtime cannot be loaded */
    MLIC_ENGINE_FAILED = 41,   /* it could not load or run a graph, or gave values that cannot be coded */
    MLIC_ENGINE_MISMATCH = 42, /* its results differ from the encoder's beyond repair */
    /* the library */
    MLIC_INTERNAL = 90
} mlic_status;

/* A model on an engine. */
typedef struct mlic_codec mlic_codec;

/* How to open a codec. Begin with MLIC_OPTIONS_INIT, which asks for the defaults. */
typedef struct mlic_options {
    size_t struct_size;      /* sizeof(mlic_options): later versions append members */
    int32_t threads;         /* of each graph; 0: as many as the process may use, at most 16 */
    const char *onnxruntime; /* path of the library; NULL: $MLIC_ONNXRUNTIME, else libonnxruntime.so.1 as the loader
                                finds it */
    uint64_t max_pixels;     /* refuse larger pictures, in both directions; 0: 2^26 */
} mlic_options;

#define MLIC_OPTIONS_INIT {sizeof(mlic_options), 0, NULL, 0}

/* One file of a bundle that lies in memory. */
typedef struct mlic_file {
    const char *path; /* as in the bundle: "manifest.json", "tables.npz", "onnx/g_a.onnx" */
    const void *data;
    size_t size;
} mlic_file;

/* The fixed part of a .mlic file. */
typedef struct mlic_header {
    uint32_t width; /* in pixels */
    uint32_t height;
    uint8_t model_id[8]; /* compare with mlic_model_id() */
} mlic_header;

/* Open a bundle and the engine. Graphs are opened when first needed, or by mlic_prepare().
 *
 * `folder` is the bundle's; its graphs must stay there as long as the codec is open. `options` may be NULL.
 * MLIC_BAD_BUNDLE, MLIC_ENGINE_MISSING, MLIC_ENGINE_FAILED, MLIC_INVALID_ARGUMENT. */
MLIC_API mlic_status mlic_open(const char *folder, const mlic_options *options, mlic_codec **codec);

/* Open a bundle that lies in memory.
 *
 * The contents are not copied: they must stay as they are until mlic_close() has returned. Statuses as mlic_open(). */
MLIC_API mlic_status mlic_open_memory(const mlic_file *files, size_t count, const mlic_options *options,
                                      mlic_codec **codec);

/* Close a codec; NULL is none. */
MLIC_API void mlic_close(mlic_codec *codec);

/* Open graphs now, so that the first picture need not wait for it: those that encoding takes, decoding, or both. */
MLIC_API mlic_status mlic_prepare(mlic_codec *codec, int32_t encode, int32_t decode);

/* The 8 bytes that a file and the codec that reads it must share; valid until mlic_close(). */
MLIC_API const uint8_t *mlic_model_id(const mlic_codec *codec);

/* What runs the graphs, one line: engine, version, provider, threads; valid until mlic_close(). */
MLIC_API const char *mlic_engine(const mlic_codec *codec);

/* Give a number of bytes that the file of any picture of this size fits in; ordinary files are a hundred times smaller.
 * MLIC_INVALID_ARGUMENT. */
MLIC_API mlic_status mlic_encode_bound(const mlic_codec *codec, uint32_t width, uint32_t height, size_t *size);

/* Compress a picture into `data`, which has room for `capacity` bytes, and give the size of the file.
 *
 * If the room is not enough, returns MLIC_BUFFER_TOO_SMALL and gives the size that would be; the picture has to be
 * encoded again. MLIC_INVALID_ARGUMENT, MLIC_ENGINE_FAILED, MLIC_OUT_OF_MEMORY. */
MLIC_API mlic_status mlic_encode(mlic_codec *codec, const uint8_t *pixels, uint32_t width, uint32_t height,
                                 size_t stride, void *data, size_t capacity, size_t *size);

/* Read the first 24 bytes of a file; no codec is needed, and no checksum is compared.
 *
 * A picture of more than `max_pixels` (0: 2^26) is unsupported, so that nobody makes room for it.
 * MLIC_TRUNCATED_STREAM, MLIC_CORRUPT_STREAM, MLIC_UNSUPPORTED_STREAM. */
MLIC_API mlic_status mlic_read_header(const void *data, size_t size, uint64_t max_pixels, mlic_header *header);

/* Decompress a picture into `pixels`, which has room for `capacity` bytes, of which (height - 1) * stride + 3 * width
 * are needed.
 *
 * If the room is not enough, returns MLIC_BUFFER_TOO_SMALL before any graph is run. After any failure `pixels` is as it
 * was. MLIC_TRUNCATED_STREAM, MLIC_CORRUPT_STREAM, MLIC_UNSUPPORTED_STREAM, MLIC_ENGINE_MISMATCH, MLIC_ENGINE_FAILED,
 * MLIC_OUT_OF_MEMORY. */
MLIC_API mlic_status mlic_decode(mlic_codec *codec, const void *data, size_t size, uint8_t *pixels, size_t capacity,
                                 size_t stride);

/* One line about the last call that failed in this thread, empty if none has; valid until the next call in it. */
MLIC_API const char *mlic_last_error(void);

/* A status's name, such as "MLIC_CORRUPT_STREAM"; "unknown status" for values that this version does not have. */
MLIC_API const char *mlic_status_name(mlic_status status);

/* The version of the library, such as "0.1.0". */
MLIC_API const char *mlic_version(void);

#ifdef __cplusplus
}
#endif

#endif
