// The C interface of the CPU kernels. Without PyTorch headers, one binary works with every version of PyTorch.
//
// The full map is (planes, height, width, inner) and dense. A contiguous map has batch x channels planes
// and inner = 1; a channels_last map has batch planes and inner = channels. The pooled map and the
// switches are (planes, pooled_height, pooled_width, inner). Windows are kernel x kernel and do not
// overlap. At the bottom and right they may be incomplete, or leave rows and columns unused.

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

// Writes the maxima and their positions dy * kernel + dx. The first of equal maxima wins, and the last NaN.
PIXELWISE_API void pixelwise_max_pool(const struct pixelwise_map* map, const void* full, void* pooled,
                                      uint8_t* switches);

// Writes each value to its switch and zeros elsewhere. Returns 1 if a switch points out of its window or
// out of the map, else 0: such a value is not written, and the rest of the map is still filled.
PIXELWISE_API int pixelwise_max_unpool(const struct pixelwise_map* map, void* full, const void* pooled,
                                       const uint8_t* switches);

// Writes the values of the full map at the switches: the adjoint of max_unpool. Returns as max_unpool does.
PIXELWISE_API int pixelwise_take(const struct pixelwise_map* map, const void* full, void* pooled,
                                 const uint8_t* switches);

// Requests huge pages for the untouched memory [data, data + bytes) (Linux).
PIXELWISE_API void pixelwise_use_huge_pages(void* data, int64_t bytes);

// Returns the chosen instruction set: "avx512", "avx2" or "baseline".
PIXELWISE_API const char* pixelwise_instructions(void);

// Returns "openmp" if the OpenMP runtime of PyTorch is used, else "own".
PIXELWISE_API const char* pixelwise_threads(void);

#ifdef __cplusplus
}
#endif
#endif
