// The C interface of the soft confusion matrix: softmax of the scores of each pixel, and sums over the pixels.

#ifndef PIXELWISE_SOFT_CONFUSION_H
#define PIXELWISE_SOFT_CONFUSION_H

#include "pooling.h"

#ifdef __cplusplus
extern "C" {
#endif

// Scores are (images, classes, pixels) if contiguous, or (images, pixels, classes) if channels_last, and dense.
struct pixelwise_scores {
    int64_t images, pixels, classes;
    int64_t channels_last;
    int64_t dtype; // PIXELWISE_FLOAT32 or PIXELWISE_BFLOAT16
    int64_t threads;
    double gamma; // of the focal loss; 0 for the cross-entropy
};

// Writes four sums per class: of weight * (1 - p)^gamma * -log p, of weight * p and of weight, with p of the true
// class, by true class; and of weight * p of each class. The true classes are not checked.
PIXELWISE_API void pixelwise_soft_confusion(const struct pixelwise_scores* sizes, const void* scores,
                                            const int64_t* classes, const float* weights, float* sums);

// Writes the gradient with respect to the scores. `slopes` has the gradients of the sums, in the same order.
PIXELWISE_API void pixelwise_soft_confusion_backward(const struct pixelwise_scores* sizes, const void* scores,
                                                     const int64_t* classes, const float* weights, const float* slopes,
                                                     void* gradient);

#ifdef __cplusplus
}
#endif
#endif
