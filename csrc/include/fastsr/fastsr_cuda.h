/* FastSR on NVIDIA GPUs, from C: part of libraries that were built with FASTSR_CUDA.
 *
 *     fsr_cuda_network* network = NULL;
 *     if (fsr_cuda_open(model, 4, 3, FSR_CUDA_FP16, &network) != FSR_OK) puts(fsr_error_message());
 *     if (fsr_cuda_upscale(network, &lr, &sr, NULL, NULL) != FSR_OK) puts(fsr_error_message());
 *     fsr_cuda_close(network);
 *
 * A network lives on the GPU, and in the context, that is current when it is opened. Any number of threads may use it
 * at once. Options are those of fsr_upscale(), of which scale, threads and strip_rows mean nothing here, and precision
 * is 0, since a network is opened in one: the others are for CPUs. max_memory bounds the working memory on the device
 * together with the pinned memory that pixels pass through. FSR_ERROR_OUT_OF_MEMORY is that of the device, too. What
 * fastsr.h says of errors, structs and pixels holds.
 */
#ifndef FASTSR_FASTSR_CUDA_H
#define FASTSR_FASTSR_CUDA_H

#include "fastsr/fastsr.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fsr_cuda_precision {
  FSR_CUDA_FP32 = 1, /* the bits of the CPU's direct convolution */
  FSR_CUDA_FP16 = 2  /* fp32 sums on tensor cores; what fp16 cannot hold is computed again in fp32 */
} fsr_cuda_precision;

typedef struct fsr_cuda_network fsr_cuda_network;

/* "" where a GPU can be used; else why not: no driver, or no GPU. Valid until this thread's next call. Never fails. */
FSR_API const char* fsr_cuda_why_not(void);

/* Put a network of the model on the GPU, in a precision of fsr_cuda_precision. The model must outlive it. *network is
 * NULL after an error. FSR_ERROR_ARGUMENT, _OUT_OF_MEMORY. */
FSR_API fsr_status fsr_cuda_open(const fsr_model* model, uint32_t scale, uint32_t channels, uint32_t precision,
                                 fsr_cuda_network** network);

/* Fill `target`, as fsr_upscale() does. *redone, if there is one, becomes 1 where fp32 was needed instead of fp16, else
 * 0. FSR_ERROR_ARGUMENT, _SHAPE, _PIXEL_VALUE, _MEMORY_BUDGET, _OUT_OF_MEMORY, _CANCELLED, _INTERNAL (the GPU failed).
 */
FSR_API fsr_status fsr_cuda_upscale(fsr_cuda_network* network, const fsr_image* source, const fsr_image* target,
                                    const fsr_options* options, uint32_t* redone);

/* The same for pixels in the device's memory, aligned to their samples. The work comes behind what is on `stream`, a
 * cudaStream_t, and is complete when the call returns. */
FSR_API fsr_status fsr_cuda_upscale_device(fsr_cuda_network* network, const fsr_image* source, const fsr_image* target,
                                           const fsr_options* options, void* stream, uint32_t* redone);

/* Give back the network's memory. NULL does nothing. */
FSR_API void fsr_cuda_close(fsr_cuda_network* network);

#ifdef __cplusplus
}
#endif

#endif
