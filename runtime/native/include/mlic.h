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
 * A part of a picture is decoded by mlic_decode_region(); mlic_encode_with() takes a colour profile, EXIF and XMP
 * along, and mlic_read_info() and mlic_read_metadata() give them back.
 *
 * ONNX Runtime, 1.20 or later, is opened at run time; the program links libmlic alone.
 *
 * Errors. Functions that can fail return a mlic_status; their outputs are written only on MLIC_OK, unless their comment
 * says otherwise. mlic_last_error() has one line about it. No exception leaves the library, and nothing is printed.
 *
 * Memory. Buffers are the caller's. Pictures pass through the networks in tiles, so that beside the picture and its
 * latent memory follows the tile; very large ones are cut into cells, which are coded one after another. Pictures are
 * 8-bit RGB, interleaved, rows from top to bottom; `stride` is the number of bytes from one row to the next, 0 for rows
 * that follow one another (3 * width).
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
    MLIC_INVALID_ARGUMENT = 10, /* a null pointer, a side of zero, a picture larger than `max_pixels`, a region outside
                                   the picture, metadata that cannot be stored */
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
    MLIC_ENGINE_MISMATCH = 42, /* its results differ from the encoder's beyond repair, or from the certificate of an
                                  integer bundle */
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
    uint64_t max_pixels;     /* refuse larger pictures, in both directions; padded, four times as many; 0: 2^28 */
    uint64_t tile_pixels;    /* what one run of a transform may compute, at least the bundle's padding squared; memory
                                follows it; 0: 5 * 2^18. Codecs that differ in it may write different files, which
                                every codec reads */
    uint64_t latent_pixels;  /* encoding cuts larger pictures into cells, likewise; 0: 2^26. Decoding refuses larger
                                latents only where they exceed 2^26, too */
    const char *certificate_cache; /* folder that remembers which engines have passed the certificates of integer
                                      bundles, from one process to the next; "off": none; NULL: mlic/certificates in
                                      $XDG_CACHE_HOME or ~/.cache, none if $MLIC_CERTIFICATE_CACHE is "off" */
} mlic_options;

#define MLIC_OPTIONS_INIT {sizeof(mlic_options), 0, NULL, 0, 0, 0, NULL}

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

/* What the picture was before it was encoded: bits of `source`. Others are ignored. */
typedef enum mlic_source {
    MLIC_SOURCE_GREY = 1,        /* it had no colour; it is given back as three equal planes */
    MLIC_SOURCE_TRANSPARENT = 2, /* it had transparency, which was composited on white */
    MLIC_SOURCE_DEEP = 4         /* it had more than 8 bits a channel */
} mlic_source;

/* What may go with a picture, each 1 to 2^24 bytes. */
typedef enum mlic_metadata {
    MLIC_ICC_PROFILE = 0, /* of the RGB values, or of grey ones if MLIC_SOURCE_GREY is set */
    MLIC_EXIF = 1,        /* from its TIFF header on, without "Exif", 0, 0 */
    MLIC_XMP = 2          /* a packet in UTF-8 */
} mlic_metadata;

/* In what numbers the entropy path of a file's model computes. */
typedef enum mlic_arithmetic {
    MLIC_FLOAT32_SYNDROME = 1, /* floats, which engines round differently; decoders repair what differs */
    MLIC_INTEGER = 2           /* integers, alike on every engine that passes the bundle's certificate */
} mlic_arithmetic;

/* What a file says of its picture. Begin with MLIC_INFO_INIT. */
typedef struct mlic_info {
    size_t struct_size; /* sizeof(mlic_info): later versions append members */
    uint32_t width;     /* in pixels */
    uint32_t height;
    uint8_t model_id[8];
    uint32_t source;       /* bits of mlic_source */
    uint32_t cell_width;   /* of the cells that a very large picture is cut into, in pixels; 0: it is not */
    uint32_t cell_height;
    size_t icc_profile_size; /* in bytes; 0: there is none */
    size_t exif_size;
    size_t xmp_size;
    uint32_t arithmetic; /* a mlic_arithmetic */
} mlic_info;

#define MLIC_INFO_INIT {sizeof(mlic_info), 0, 0, {0}, 0, 0, 0, 0, 0, 0, 0}

/* How to encode a picture, and what goes with it. Begin with MLIC_ENCODE_OPTIONS_INIT, which asks for nothing. */
typedef struct mlic_encode_options {
    size_t struct_size;      /* sizeof(mlic_encode_options): later versions append members */
    uint32_t channels;       /* bytes of a pixel: 3; or 1 for grey, which sets MLIC_SOURCE_GREY; 0: 3 */
    uint32_t source;         /* bits of mlic_source */
    const void *icc_profile; /* see mlic_metadata; NULL: none */
    size_t icc_profile_size;
    const void *exif;
    size_t exif_size;
    const void *xmp;
    size_t xmp_size;
} mlic_encode_options;

#define MLIC_ENCODE_OPTIONS_INIT {sizeof(mlic_encode_options), 0, 0, NULL, 0, NULL, 0, NULL, 0}

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

/* Open graphs now, so that the first picture need not wait for it: those that encoding takes, decoding, or both.
 *
 * The engine also has to pass the certificate of an integer bundle now, unless it is known to; otherwise it has to when
 * the first picture comes. MLIC_ENGINE_FAILED, MLIC_ENGINE_MISMATCH, MLIC_OUT_OF_MEMORY. */
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
 * encoded again. MLIC_INVALID_ARGUMENT, MLIC_ENGINE_FAILED, MLIC_ENGINE_MISMATCH, MLIC_OUT_OF_MEMORY. */
MLIC_API mlic_status mlic_encode(mlic_codec *codec, const uint8_t *pixels, uint32_t width, uint32_t height,
                                 size_t stride, void *data, size_t capacity, size_t *size);

/* As mlic_encode_bound() and mlic_encode(), with options, which may be NULL.
 *
 * The picture has to be upright. Orientations in EXIF and XMP are stored as 1, and the thumbnail of a picture that was
 * turned is taken out; all else is stored byte for byte. MLIC_INVALID_ARGUMENT also for damaged EXIF. */
MLIC_API mlic_status mlic_encode_bound_with(const mlic_codec *codec, uint32_t width, uint32_t height,
                                            const mlic_encode_options *options, size_t *size);
MLIC_API mlic_status mlic_encode_with(mlic_codec *codec, const uint8_t *pixels, uint32_t width, uint32_t height,
                                      size_t stride, const mlic_encode_options *options, void *data, size_t capacity,
                                      size_t *size);

/* Read the first 24 bytes of a file; no codec is needed, and no checksum is compared.
 *
 * A picture of more than `max_pixels` (0: 2^28) is unsupported, so that nobody makes room for it.
 * MLIC_TRUNCATED_STREAM, MLIC_CORRUPT_STREAM, MLIC_UNSUPPORTED_STREAM. */
MLIC_API mlic_status mlic_read_header(const void *data, size_t size, uint64_t max_pixels, mlic_header *header);

/* Read what a file says of its picture; no codec is needed. The whole file is checked but for what takes a model.
 *
 * `info->struct_size` is kept. `max_pixels` as mlic_read_header(). MLIC_TRUNCATED_STREAM, MLIC_CORRUPT_STREAM,
 * MLIC_UNSUPPORTED_STREAM, MLIC_INVALID_ARGUMENT, MLIC_OUT_OF_MEMORY. */
MLIC_API mlic_status mlic_read_info(const void *data, size_t size, uint64_t max_pixels, mlic_info *info);

/* Read a part of what goes with a file's picture, `which` of mlic_metadata, into `contents`, which has room for
 * `capacity` bytes, and give its size: 0 if the file has none. mlic_read_info() tells the sizes before.
 *
 * If the room is not enough, returns MLIC_BUFFER_TOO_SMALL and gives the size. Other statuses as mlic_read_info(). */
MLIC_API mlic_status mlic_read_metadata(const void *data, size_t size, uint64_t max_pixels, int32_t which,
                                        void *contents, size_t capacity, size_t *contents_size);

/* Decompress a picture into `pixels`, which has room for `capacity` bytes, of which (height - 1) * stride + 3 * width
 * are needed.
 *
 * If the room is not enough, returns MLIC_BUFFER_TOO_SMALL before any graph is run. After any failure `pixels` is as it
 * was, or holds some tiles of a picture that has several. MLIC_TRUNCATED_STREAM, MLIC_CORRUPT_STREAM,
 * MLIC_UNSUPPORTED_STREAM, MLIC_ENGINE_MISMATCH, MLIC_ENGINE_FAILED, MLIC_OUT_OF_MEMORY. */
MLIC_API mlic_status mlic_decode(mlic_codec *codec, const void *data, size_t size, uint8_t *pixels, size_t capacity,
                                 size_t stride);

/* Decompress the part of a picture that begins at column `x` and row `y`; equal to that part of the whole picture.
 *
 * Only the cells and tiles that it needs are computed. Room, stride and statuses as mlic_decode(), for the part's width
 * and height; MLIC_INVALID_ARGUMENT if it is empty or not inside the picture. */
MLIC_API mlic_status mlic_decode_region(mlic_codec *codec, const void *data, size_t size, uint32_t x, uint32_t y,
                                        uint32_t width, uint32_t height, uint8_t *pixels, size_t capacity,
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
