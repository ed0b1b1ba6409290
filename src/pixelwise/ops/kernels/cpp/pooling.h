// The plain C interface of the CPU kernels. No PyTorch header: one binary serves every version of it.
//
// The full map is (planes, height, width, inner), dense: inner is 1 for a contiguous map, whose planes
// are batch x channels, and the number of channels for channels_last, whose planes are the batch. The
// pooled map and the switches are (planes, pooled_height, pooled_width, inner). Windows are kernel x
// kernel and do not overlap; at the bottom and right they may be clipped, or leave rows and columns over.

#ifndef PIXELWISE_POOLING_H
#define PIXELWISE_POOLING_H

#include <stdint.h>

#ifdef _WIN32
#define PIXELWISE_API __declspec(dllexport)
#else
#define PIXELWISE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum pixelwise_dtype { PIXELWISE_FLOAT32 = 0, PIXELWISE_FLOAT64 = 1, PIXELWISE_BFLOAT16 = 2, PIXELWISE_FLOAT16 = 3 };

struct pixelwise_map {
    int64_t planes, height, width, inner;
    int64_t pooled_height, pooled_width;
    int64_t kernel; // 2 to 15
    int64_t dtype;  // enum pixelwise_dtype
    int64_t threads;
};

// Maxima and their places dy * kernel + dx. The first of equal maxima wins, and the last NaN.
PIXELWISE_API void pixelwise_max_pool(const struct pixelwise_map* map, const void* full, void* pooled,
                                      uint8_t* switches);

// Zeros, and each value at its switch. Returns 0, or 1 when a switch points out of its window or
// out of the map: such a value is written nowhere, and the rest of the map is still filled.
PIXELWISE_API int pixelwise_max_unpool(const struct pixelwise_map* map, void* full, const void* pooled,
                                       const uint8_t* switches);

// The values of the full map at the switches: the adjoint of max_unpool. Returns as max_unpool does.
PIXELWISE_API int pixelwise_take(const struct pixelwise_map* map, const void* full, void* pooled,
                                 const uint8_t* switches);

// Asks the system to back [data, data + bytes) with huge pages, where it is not touched yet (Linux).
PIXELWISE_API void pixelwise_use_huge_pages(void* data, int64_t bytes);

// "avx512", "avx2" or "baseline": what the dispatch chose on this processor.
PIXELWISE_API const char* pixelwise_instructions(void);

// "openmp" when the OpenMP runtime that PyTorch loaded is shared, else "own".
PIXELWISE_API const char* pixelwise_threads(void);

#ifdef __cplusplus
}
#endif
#endif
