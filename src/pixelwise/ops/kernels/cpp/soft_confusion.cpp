// The soft confusion matrix: divides the pixels among threads and adds their sums.

#include "soft_confusion.h"

#include <vector>

#include "task.h"

namespace pixelwise {
namespace {

// Parts depend on the sizes alone, so the result does not depend on the number of threads.
ConfusionTask make_task(const pixelwise_scores* sizes, const void* scores, const int64_t* classes,
                        const float* weights) {
    ConfusionTask task{};
    task.sizes = sizes, task.scores = scores, task.classes = classes, task.weights = weights;
    task.parts = (sizes->pixels + ConfusionTask::part_pixels - 1) / ConfusionTask::part_pixels;
    return task;
}

void run(ConfusionTask& task) {
    const pixelwise_scores& sizes = *task.sizes;
    const int64_t threads = count_threads(sizes.images * sizes.pixels * sizes.classes, sizes.threads);
    const int64_t count = sizes.images * task.parts;
    run_pieces(
        threads, count, count / (threads * 8) + 1,
        [](void* data, int64_t begin, int64_t end) {
            const ConfusionTask& all = *static_cast<ConfusionTask*>(data);
            std::vector<float> scratch(2 * all.sizes->classes * ConfusionTask::block);
            loops.run_confusion(all, begin, end, scratch.data());
        },
        &task);
}

} // namespace
} // namespace pixelwise

using namespace pixelwise;

void pixelwise_soft_confusion(const pixelwise_scores* sizes, const void* scores, const int64_t* classes,
                              const float* weights, float* sums) {
    ConfusionTask task = make_task(sizes, scores, classes, weights);
    const int64_t width = 4 * sizes->classes, parts = sizes->images * task.parts;
    std::vector<float> partials(parts * width);
    task.partials = partials.data();
    run(task);
    std::vector<double> totals(width);
    for (int64_t part = 0; part < parts; ++part)
        for (int64_t i = 0; i < width; ++i) totals[i] += partials[part * width + i];
    for (int64_t i = 0; i < width; ++i) sums[i] = float(totals[i]);
}

void pixelwise_soft_confusion_backward(const pixelwise_scores* sizes, const void* scores, const int64_t* classes,
                                       const float* weights, const float* slopes, void* gradient) {
    ConfusionTask task = make_task(sizes, scores, classes, weights);
    task.slopes = slopes, task.gradient = gradient;
    run(task);
}
