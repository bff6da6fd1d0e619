/* FastSR: super-resolution of images, from C.
 *
 * A model (fsr_model) is loaded once and shared by all threads. It upscales whole images with fsr_upscale(), or, for
 * images that arrive or leave by rows, through a stream (fsr_stream): rows are pushed as they come and pulled as soon
 * as they are ready, in memory that grows with the width of the image and not with its height. Both give the same
 * bits, whatever the number of threads, the memory bound, and the portions in which rows are pushed and pulled.
 *
 *     fsr_model* model = NULL;
 *     if (fsr_model_open_file("fmen_x4.fsr", NULL, &model) != FSR_OK) puts(fsr_error_message());
 *     fsr_image lr = FSR_IMAGE_INIT, sr = FSR_IMAGE_INIT;
 *     lr.pixels = small; lr.width = 320; lr.height = 180; lr.channels = 1; lr.pixel_type = FSR_UINT8;
 *     sr.pixels = large; sr.width = 1280; sr.height = 720; sr.channels = 1; sr.pixel_type = FSR_UINT8;
 *     if (fsr_upscale(model, &lr, &sr, NULL) != FSR_OK) puts(fsr_error_message());
 *     fsr_model_close(model);
 *
 * LR is the image that goes in, SR the result, `scale` times as wide and high.
 *
 * Errors. Functions return FSR_OK or say what is wrong; fsr_error_message() has the words. The library never prints,
 * aborts or throws. After an error, pixels of a target may have been written, and counts that a call returns are 0.
 *
 * Threads. A model may be used by any number of threads at once. A stream is used by one thread at a time; different
 * streams are independent, also when they share a model. Computing may use worker threads of the library's own
 * (fsr_options.threads); callbacks are only ever called by the thread that called the library, never by those.
 *
 * Structs. Each begins with struct_size, which FSR_..._INIT sets. Later versions may add members at the end: a struct
 * that is shorter than the library's means 0 for what is missing; one that is longer is refused if what the library
 * does not know is not 0. 0 is the default of every member.
 *
 * Memory. Handles are the caller's to close; everything else belongs to whom it came from. Pointers that a call is
 * given are not kept after it returns, unless it says so.
 *
 * Research use: FastSR is no medical device.
 */
#ifndef FASTSR_FASTSR_H
#define FASTSR_FASTSR_H

#include <stddef.h>
#include <stdint.h>

#if defined(FSR_STATIC)
#define FSR_API
#elif defined(_WIN32)
#if defined(FSR_BUILDING)
#define FSR_API __declspec(dllexport)
#else
#define FSR_API __declspec(dllimport)
#endif
#else
#define FSR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ---------------------------------------------------------------------------------------------------- */

#define FSR_VERSION_MAJOR 0
#define FSR_VERSION_MINOR 1
#define FSR_VERSION_PATCH 0

/* The version of the library that runs, such as "0.1.0"; the macros are that of this header. Never fails. */
FSR_API const char* fsr_version(void);

/* ---- Errors ----------------------------------------------------------------------------------------------------- */

typedef enum fsr_status {
  FSR_OK = 0,
  FSR_ERROR_ARGUMENT = 1,      /* a null pointer, or a value that does not exist */
  FSR_ERROR_SHAPE = 2,         /* images whose sizes are impossible or do not fit each other */
  FSR_ERROR_PIXEL_VALUE = 3,   /* NaN or infinity in float pixels */
  FSR_ERROR_MEMORY_BUDGET = 4, /* max_memory is less than the least that would do */
  FSR_ERROR_OUT_OF_MEMORY = 5, /* the allocator or the system has no memory */
  FSR_ERROR_FILE = 6,          /* a file cannot be read */
  FSR_ERROR_MODEL = 7,         /* not a .fsr file, or contradictory contents */
  FSR_ERROR_MODEL_DAMAGED = 8, /* a .fsr file that is truncated or whose hash is wrong */
  FSR_ERROR_MODEL_VERSION = 9, /* a .fsr file of a newer format */
  FSR_ERROR_CANCELLED = 10,    /* the progress callback asked to stop */
  FSR_ERROR_STATE = 11,        /* a call that a stream cannot take now */
  FSR_ERROR_INTERNAL = 12      /* a defect of the library; please report it */
} fsr_status;

/* The name of a status, such as "FSR_ERROR_SHAPE"; "unknown" for a number that is none. Never fails. */
FSR_API const char* fsr_status_name(fsr_status status);

/* What the last call that failed in this thread had to say: it names the value, the limit, and what would work.
 * "" where none has failed. Valid until the next call fails in this thread. Never fails. */
FSR_API const char* fsr_error_message(void);

/* ---- Pixels ----------------------------------------------------------------------------------------------------- */

typedef enum fsr_pixel_type {
  FSR_UINT8 = 1,
  FSR_UINT16 = 2, /* of the machine's byte order, as all */
  FSR_INT16 = 3,
  FSR_FLOAT32 = 4 /* IEEE 754 binary32 */
} fsr_pixel_type;

/* A view of somebody's pixels: of an image, or of some rows of one. Strides are in bytes, of any sign, and 0 stands
 * for the usual: samples of a pixel side by side, then pixels, then rows. Pixels need not be aligned. */
typedef struct fsr_image {
  size_t struct_size;
  void* pixels;        /* row 0, column 0, channel 0; pixels of a source are not written */
  uint32_t width;      /* pixels, 1 to 2^30 */
  uint32_t height;     /* rows, 1 to 2^30 */
  uint32_t channels;   /* those of one of the model's networks; 1: grey, 3: RGB */
  uint32_t pixel_type; /* fsr_pixel_type */
  ptrdiff_t row_stride;
  ptrdiff_t pixel_stride;
  ptrdiff_t channel_stride;
} fsr_image;
#define FSR_IMAGE_INIT {sizeof(fsr_image), NULL, 0, 0, 0, 0, 0, 0, 0}

/* ---- Options ---------------------------------------------------------------------------------------------------- */

/* Called now and then while a call computes. done: rows of the result so far; total: rows of the whole result, 0 while
 * a stream's image has not ended. Return 0 to go on; anything else cancels the call. Must not throw, jump, or use the
 * stream that it hears of. */
typedef int (*fsr_progress_function)(void* user, uint64_t done, uint64_t total);

/* FSR_INT8: integers, nearly twice as fast and on photos some 0.01 dB of PSNR worse; the same bits on all processors.
 * The model must know the ranges of its layers' values ('fastsr quantize'), as those that come with FastSR do.
 * FSR_BF16: bfloat16 with sums in fp32, for processors with AMX; elsewhere slower than FSR_FP32. Its bits depend on the
 * ISA level. */
typedef enum fsr_precision { FSR_FP32 = 0, FSR_INT8 = 1, FSR_BF16 = 2 } fsr_precision;

/* How to upscale. Where a pointer to it is NULL, the defaults hold. */
typedef struct fsr_options {
  size_t struct_size;
  uint32_t scale;      /* 0: 4 where the model has it, else its largest */
  uint32_t threads;    /* 1 to 256, the caller's included; 0: as many as the process may use */
  uint64_t max_memory; /* bytes of working memory; 0: no bound. Changes speed, never a pixel */
  /* Pixel values that are black and white to the network. Both 0: the whole range of integers, 0 to 1 of floats.
   * It is never guessed: a 12-bit image in 16-bit pixels needs 0 and 4095. Integer results are clamped to it. */
  double value_low;
  double value_high;
  /* LR rows that a stream moves at once, 1 to 64; 0: 1. One gives the least latency and memory, 8 the best speed.
   * Whole images choose their own. */
  uint32_t strip_rows;
  uint32_t precision;             /* fsr_precision */
  fsr_progress_function progress; /* or NULL; a stream uses it, and progress_user, until it is closed */
  void* progress_user;
} fsr_options;
#define FSR_OPTIONS_INIT {sizeof(fsr_options), 0, 0, 0, 0, 0, 0, 0, NULL, NULL}

/* What a call or a stream will take, told before it is made. */
typedef struct fsr_plan {
  size_t struct_size;
  uint64_t memory;       /* bytes of working memory: model, source and target not included */
  uint64_t memory_least; /* the smallest max_memory that would do; set with FSR_ERROR_MEMORY_BUDGET, too */
  uint32_t scale;
  uint32_t strip_rows; /* LR rows that move at once */
  uint32_t panels;     /* vertical parts that are done one after another, with some work done twice at their edges */
  /* Streams: once LR row y is pushed, the result of row y - latency_rows and of all above can be pulled. */
  uint32_t latency_rows;
  uint32_t halo_rows; /* a pixel of the result depends on the LR pixels at most so far away */
  uint32_t halo_columns;
} fsr_plan;
#define FSR_PLAN_INIT {sizeof(fsr_plan), 0, 0, 0, 0, 0, 0, 0, 0}

/* ---- Models ----------------------------------------------------------------------------------------------------- */

/* Where the library's memory comes from. Called only by threads that call the library, and by several at once if they
 * do; never by fsr_stream_push_rows(), _pull_rows(), _end() and _reset(). It serves the handles, the weights, and all
 * working memory. A few hundred kilobytes that describe the networks and plans come from the C++ runtime instead
 * (operator new), threads' stacks from the system. */
typedef struct fsr_allocator {
  size_t struct_size;
  void* user; /* passed on to both; it and the functions must work until model and streams are closed */
  void* (*allocate)(void* user, size_t size, size_t alignment); /* size > 0; NULL: there is no memory */
  void (*release)(void* user, void* block, size_t size);
} fsr_allocator;
#define FSR_ALLOCATOR_INIT {sizeof(fsr_allocator), NULL, NULL, NULL}

typedef enum fsr_log_level { FSR_LOG_INFO = 1, FSR_LOG_WARNING = 2, FSR_LOG_ERROR = 3 } fsr_log_level;

/* Hears what happens: models and streams that open (info), fewer threads than asked for (warning), and each error that
 * a call with this model returns. Called by the thread that made the call; `message` is valid during it. Must not
 * throw, jump, or call the library. */
typedef void (*fsr_log_function)(void* user, fsr_log_level level, const char* message);

typedef struct fsr_model_options {
  size_t struct_size;
  const char* isa; /* "scalar", "avx2", "avx512", ...; NULL: FASTSR_ISA, else the fastest that runs here */
  const fsr_allocator* allocator; /* copied; NULL: the system */
  fsr_log_function log;           /* or NULL */
  void* log_user;
} fsr_model_options;
#define FSR_MODEL_OPTIONS_INIT {sizeof(fsr_model_options), NULL, NULL, NULL, NULL}

typedef struct fsr_network {
  uint32_t scale;
  uint32_t channels; /* in and out */
} fsr_network;

/* What is known of a model. The pointers are valid until it is closed. */
typedef struct fsr_model_info {
  size_t struct_size;
  const char* name;
  const char* sha256; /* 64 hexadecimal digits that name the weights, networks and card */
  const char* card;   /* JSON: what the model was trained on, its figures, its limits */
  const char* isa;    /* the ISA level that it runs on */
  const fsr_network* networks;
  size_t network_count;
} fsr_model_info;
#define FSR_MODEL_INFO_INIT {sizeof(fsr_model_info), NULL, NULL, NULL, NULL, NULL, 0}

typedef struct fsr_model fsr_model;

/* Load a model: a .fsr file, or its bytes in memory, which are copied. Its size, hash and contents are checked; nothing
 * in it is executed. options may be NULL. *model is NULL after an error.
 * FSR_ERROR_FILE, _MODEL, _MODEL_DAMAGED, _MODEL_VERSION, _ARGUMENT, _OUT_OF_MEMORY. */
FSR_API fsr_status fsr_model_open_file(const char* path, const fsr_model_options* options, fsr_model** model);
FSR_API fsr_status fsr_model_open_memory(const void* bytes, size_t size, const fsr_model_options* options,
                                         fsr_model** model);

/* Fill *info. FSR_ERROR_ARGUMENT. */
FSR_API fsr_status fsr_model_get_info(const fsr_model* model, fsr_model_info* info);

/* Give back the working memory that fsr_upscale() keeps for its next call. model may be NULL. */
FSR_API void fsr_model_trim(fsr_model* model);

/* Close the model. Its streams stay usable; the last of them to be closed frees what they share. NULL does nothing. */
FSR_API void fsr_model_close(fsr_model* model);

/* ---- Whole images ----------------------------------------------------------------------------------------------- */

/* Fill `target` with `source` enlarged. Both have the same channels and pixel type; target is scale * width and
 * scale * height of source; they must not overlap. options may be NULL.
 * The working memory is kept for the next call with a source of the same size and the same options, which then
 * allocates nothing; as many threads as call at once have memory of their own.
 * FSR_ERROR_ARGUMENT, _SHAPE, _PIXEL_VALUE, _MEMORY_BUDGET, _OUT_OF_MEMORY, _CANCELLED. */
FSR_API fsr_status fsr_upscale(fsr_model* model, const fsr_image* source, const fsr_image* target,
                               const fsr_options* options);

/* Fill *plan with what fsr_upscale() would take for such a source, whose pixels may be NULL here.
 * FSR_ERROR_ARGUMENT, _SHAPE, _MEMORY_BUDGET, _OUT_OF_MEMORY. */
FSR_API fsr_status fsr_upscale_plan(fsr_model* model, const fsr_image* source, const fsr_options* options,
                                    fsr_plan* plan);

/* ---- Streams of rows -------------------------------------------------------------------------------------------- */

typedef struct fsr_stream fsr_stream;

/* Fill *plan with what such a stream will take, without opening it. options may be NULL.
 * FSR_ERROR_ARGUMENT, _SHAPE, _MEMORY_BUDGET, _OUT_OF_MEMORY. */
FSR_API fsr_status fsr_stream_plan(fsr_model* model, uint32_t width, uint32_t channels, fsr_pixel_type type,
                                   const fsr_options* options, fsr_plan* plan);

/* Open a stream for images of this width, of any height. It allocates all that it will ever need and starts its
 * threads; from here on until it is closed, it allocates nothing. *stream is NULL after an error. Errors as above. */
FSR_API fsr_status fsr_stream_open(fsr_model* model, uint32_t width, uint32_t channels, fsr_pixel_type type,
                                   const fsr_options* options, fsr_stream** stream);

/* Take the next rows of the image: all that are offered, or fewer where rows of the result are ready, which have to be
 * pulled first. *taken says how many. The rows are the caller's again when the call returns.
 *     for (y = 0; y < height; y += taken) { push rows y...; pull until 0 rows are given }
 * rows: of the stream's width, channels and type; row 0 is the next row of the image.
 * FSR_ERROR_ARGUMENT, _SHAPE, _STATE (the image has ended, or a call has failed); and, after which only a reset or a
 * close is possible, FSR_ERROR_PIXEL_VALUE, _CANCELLED. */
FSR_API fsr_status fsr_stream_push_rows(fsr_stream* stream, const fsr_image* rows, uint32_t* taken);

/* Fill `rows` with the next rows of the result: as many as it has room for and as are ready. *given says how many; 0
 * means that more rows have to be pushed, or after fsr_stream_end(), that the result is complete.
 * rows: of scale * the stream's width, of its channels and type; row 0 takes the next row of the result.
 * Errors as of fsr_stream_push_rows(). */
FSR_API fsr_status fsr_stream_pull_rows(fsr_stream* stream, const fsr_image* rows, uint32_t* given);

/* The rows that were pushed are the whole image; its last rows can be pulled now. FSR_ERROR_ARGUMENT, _STATE (no row
 * has been pushed, or it has ended). */
FSR_API fsr_status fsr_stream_end(fsr_stream* stream);

/* Forget the image, complete or not, and any failure; the next row pushed is row 0 of a new one. FSR_ERROR_ARGUMENT. */
FSR_API fsr_status fsr_stream_reset(fsr_stream* stream);

/* Close the stream. NULL does nothing. */
FSR_API void fsr_stream_close(fsr_stream* stream);

#ifdef __cplusplus
}
#endif

#endif
