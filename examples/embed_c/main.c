/* Enlarges a PGM image of 8 or 16 bits by rows: neither image is ever in memory as a whole.
 *
 *     cc -std=c11 -O2 main.c -o pgm_sr $(pkg-config --cflags --libs fastsr)
 *     ./pgm_sr $(pkg-config --variable=modeldir fastsr)/fmen_x4.fsr small.pgm large.pgm
 *
 * The result appears under its name when it is complete, and not at all after an error. */
#define _POSIX_C_SOURCE 200809L /* fsync, fileno, getpid */
#include <ctype.h>
#include <fastsr/fastsr.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A PGM file, as https://netpbm.sourceforge.net/doc/pgm.html describes it: samples of 16 bits are big-endian. */
typedef struct {
  FILE* file;
  uint32_t width, height, maxval;
} pgm;

static const char* problem = ""; /* of our own; the library has its own words */

static int failed(const char* words) {
  problem = words;
  return 0;
}

/* A number of the header, after white space and comments, and the one white space character behind it. */
static int read_number(FILE* file, uint32_t most, uint32_t* number) {
  int c = fgetc(file);
  while (isspace(c) || c == '#') {
    if (c == '#') {
      while (c != '\n' && c != EOF) c = fgetc(file);
    }
    c = fgetc(file);
  }
  if (!isdigit(c)) return failed("the header is damaged");
  uint64_t value = 0;
  for (; isdigit(c); c = fgetc(file)) {
    value = value * 10 + (uint64_t)(c - '0');
    if (value > most) return failed("a number in the header is too large");
  }
  *number = (uint32_t)value;
  return value > 0 && isspace(c) ? 1 : failed("the header is damaged");
}

static int open_pgm(const char* path, pgm* image) {
  image->file = fopen(path, "rb");
  if (!image->file) return failed("the image cannot be opened");
  if (fgetc(image->file) != 'P' || fgetc(image->file) != '5') return failed("the image is no binary PGM");
  return read_number(image->file, 1u << 30, &image->width) && read_number(image->file, 1u << 30, &image->height) &&
         read_number(image->file, 65535, &image->maxval);
}

/* From the file's byte order to the machine's, or back. */
static void swap_bytes(void* samples, size_t count, size_t sample) {
  const uint16_t one = 1;
  if (sample == 1 || *(const unsigned char*)&one == 0) return;
  unsigned char* bytes = samples;
  for (size_t i = 0; i < count; ++i, bytes += 2) {
    const unsigned char first = bytes[0];
    bytes[0] = bytes[1];
    bytes[1] = first;
  }
}

/* What the rows of both images need, put together so that one place frees it. */
typedef struct {
  fsr_model* model;
  fsr_stream* stream;
  FILE* output;
  fsr_image lr, sr; /* one row; `scale` rows */
  size_t sample;    /* bytes: 1 or 2 */
} job;

static void close_job(job* j) {
  fsr_stream_close(j->stream);
  fsr_model_close(j->model);
  if (j->output) fclose(j->output);
  free(j->lr.pixels);
  free(j->sr.pixels);
}

static int open_job(const char* model, const pgm* image, job* j) {
  const fsr_pixel_type type = image->maxval < 256 ? FSR_UINT8 : FSR_UINT16;
  fsr_options options = FSR_OPTIONS_INIT;
  options.value_high = image->maxval;
  fsr_plan plan = FSR_PLAN_INIT;
  if (fsr_model_open_file(model, NULL, &j->model) != FSR_OK ||
      fsr_stream_plan(j->model, image->width, 1, type, &options, &plan) != FSR_OK ||
      fsr_stream_open(j->model, image->width, 1, type, &options, &j->stream) != FSR_OK) {
    return failed(fsr_error_message());
  }
  fprintf(stderr, "x%" PRIu32 ", %" PRIu64 " bytes of working memory, the result is %" PRIu32 " rows behind\n",
          plan.scale, plan.memory, plan.latency_rows);
  j->sample = type == FSR_UINT8 ? 1 : 2;
  j->lr.width = image->width;
  j->lr.height = 1;
  j->sr.width = image->width * plan.scale;
  j->sr.height = plan.scale;
  j->lr.channels = j->sr.channels = 1;
  j->lr.pixel_type = j->sr.pixel_type = type;
  j->lr.pixels = malloc(j->lr.width * j->sample);
  j->sr.pixels = malloc(j->sr.width * j->sample * plan.scale);
  return j->lr.pixels && j->sr.pixels ? 1 : failed("there is no memory for the rows");
}

/* Write the rows that are ready. */
static int pull_rows(job* j) {
  for (;;) {
    uint32_t given = 0;
    if (fsr_stream_pull_rows(j->stream, &j->sr, &given) != FSR_OK) return failed(fsr_error_message());
    if (given == 0) return 1;
    const size_t samples = (size_t)j->sr.width * given;
    swap_bytes(j->sr.pixels, samples, j->sample);
    if (fwrite(j->sr.pixels, j->sample, samples, j->output) != samples) return failed("writing failed");
  }
}

static int enlarge(const pgm* image, job* j) {
  for (uint32_t y = 0; y < image->height;) {
    uint32_t taken = 0;
    if (fread(j->lr.pixels, j->sample, j->lr.width, image->file) != j->lr.width) {
      return failed("the image is truncated");
    }
    swap_bytes(j->lr.pixels, j->lr.width, j->sample);
    if (fsr_stream_push_rows(j->stream, &j->lr, &taken) != FSR_OK) return failed(fsr_error_message());
    y += taken; /* always 1 here: whatever was ready has been pulled */
    if (!pull_rows(j)) return 0;
  }
  if (fsr_stream_end(j->stream) != FSR_OK) return failed(fsr_error_message());
  return pull_rows(j);
}

/* Write to a neighbour of `path`, which takes its place when it is complete. */
static int write_result(const pgm* image, const char* path, job* j) {
  char temporary[4096];
  const int length = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  if (length < 0 || (size_t)length >= sizeof temporary) return failed("the path is too long");
  j->output = fopen(temporary, "wbx");
  if (!j->output) return failed("the result cannot be written");
  const uint32_t scale = j->sr.height;
  int good = fprintf(j->output, "P5\n%" PRIu32 " %" PRIu32 "\n%" PRIu32 "\n", j->sr.width, image->height * scale,
                     image->maxval) > 0 ||
             failed("writing failed");
  good = good && enlarge(image, j);
  if (good && (fflush(j->output) != 0 || fsync(fileno(j->output)) != 0)) good = failed("writing failed");
  if (fclose(j->output) != 0 && good) good = failed("writing failed");
  j->output = NULL;
  if (good && rename(temporary, path) != 0) good = failed("the result cannot take its name");
  if (!good) remove(temporary);
  return good;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: %s MODEL.fsr IN.pgm OUT.pgm\n", argv[0]);
    return 2;
  }
  pgm image = {NULL, 0, 0, 0};
  job j = {NULL, NULL, NULL, FSR_IMAGE_INIT, FSR_IMAGE_INIT, 1};
  const int good = open_pgm(argv[2], &image) && open_job(argv[1], &image, &j) && write_result(&image, argv[3], &j);
  if (!good) fprintf(stderr, "%s\n", problem);
  close_job(&j);
  if (image.file) fclose(image.file);
  return good ? 0 : 1;
}
