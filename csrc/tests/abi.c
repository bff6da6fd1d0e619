/* Prints what a compiled program knows of fastsr.h: sizes, offsets, values. csrc/capi/abi.txt has them. */
#include <stddef.h>
#include <stdio.h>

#include "fastsr/fastsr.h"

#define SIZE(type) printf("size %s %zu\n", #type, sizeof(type))
#define MEMBER(type, member) printf("offset %s.%s %zu\n", #type, #member, offsetof(type, member))
#define VALUE(name) printf("value %s %d\n", #name, (int)name)

int main(void) {
  SIZE(fsr_image);
  MEMBER(fsr_image, struct_size);
  MEMBER(fsr_image, pixels);
  MEMBER(fsr_image, width);
  MEMBER(fsr_image, height);
  MEMBER(fsr_image, channels);
  MEMBER(fsr_image, pixel_type);
  MEMBER(fsr_image, row_stride);
  MEMBER(fsr_image, pixel_stride);
  MEMBER(fsr_image, channel_stride);
  SIZE(fsr_options);
  MEMBER(fsr_options, struct_size);
  MEMBER(fsr_options, scale);
  MEMBER(fsr_options, threads);
  MEMBER(fsr_options, max_memory);
  MEMBER(fsr_options, value_low);
  MEMBER(fsr_options, value_high);
  MEMBER(fsr_options, strip_rows);
  MEMBER(fsr_options, precision);
  MEMBER(fsr_options, progress);
  MEMBER(fsr_options, progress_user);
  SIZE(fsr_plan);
  MEMBER(fsr_plan, struct_size);
  MEMBER(fsr_plan, memory);
  MEMBER(fsr_plan, memory_least);
  MEMBER(fsr_plan, scale);
  MEMBER(fsr_plan, strip_rows);
  MEMBER(fsr_plan, panels);
  MEMBER(fsr_plan, latency_rows);
  MEMBER(fsr_plan, halo_rows);
  MEMBER(fsr_plan, halo_columns);
  SIZE(fsr_allocator);
  MEMBER(fsr_allocator, struct_size);
  MEMBER(fsr_allocator, user);
  MEMBER(fsr_allocator, allocate);
  MEMBER(fsr_allocator, release);
  SIZE(fsr_model_options);
  MEMBER(fsr_model_options, struct_size);
  MEMBER(fsr_model_options, isa);
  MEMBER(fsr_model_options, allocator);
  MEMBER(fsr_model_options, log);
  MEMBER(fsr_model_options, log_user);
  SIZE(fsr_network);
  MEMBER(fsr_network, scale);
  MEMBER(fsr_network, channels);
  SIZE(fsr_model_info);
  MEMBER(fsr_model_info, struct_size);
  MEMBER(fsr_model_info, name);
  MEMBER(fsr_model_info, sha256);
  MEMBER(fsr_model_info, card);
  MEMBER(fsr_model_info, isa);
  MEMBER(fsr_model_info, networks);
  MEMBER(fsr_model_info, network_count);
  SIZE(fsr_status);
  VALUE(FSR_OK);
  VALUE(FSR_ERROR_ARGUMENT);
  VALUE(FSR_ERROR_SHAPE);
  VALUE(FSR_ERROR_PIXEL_VALUE);
  VALUE(FSR_ERROR_MEMORY_BUDGET);
  VALUE(FSR_ERROR_OUT_OF_MEMORY);
  VALUE(FSR_ERROR_FILE);
  VALUE(FSR_ERROR_MODEL);
  VALUE(FSR_ERROR_MODEL_DAMAGED);
  VALUE(FSR_ERROR_MODEL_VERSION);
  VALUE(FSR_ERROR_CANCELLED);
  VALUE(FSR_ERROR_STATE);
  VALUE(FSR_ERROR_INTERNAL);
  SIZE(fsr_pixel_type);
  VALUE(FSR_UINT8);
  VALUE(FSR_UINT16);
  VALUE(FSR_INT16);
  VALUE(FSR_FLOAT32);
  SIZE(fsr_precision);
  VALUE(FSR_FP32);
  VALUE(FSR_INT8);
  VALUE(FSR_BF16);
  SIZE(fsr_log_level);
  VALUE(FSR_LOG_INFO);
  VALUE(FSR_LOG_WARNING);
  VALUE(FSR_LOG_ERROR);
  return 0;
}
