// The arguments of the loops, and the loops of each instruction set.

#ifndef PIXELWISE_TASK_H
#define PIXELWISE_TASK_H

#include "pooling.h"
#include "soft_confusion.h"

namespace pixelwise {

enum class Work { pool, unpool, take };

struct Task {
    Work work;
    const pixelwise_map* map;
    void* full;
    void* pooled;
    uint8_t* switches;
    bool stream; // bypass the caches; rows are then multiples of a vector
};

struct ConfusionTask {
    static constexpr int64_t part_pixels = 1024, block = 64; // a block fits into the L1 cache
    const pixelwise_scores* sizes;
    const void* scores;
    const int64_t* classes;
    const float *weights, *slopes;
    void* gradient;  // null: compute the sums
    float* partials; // for each part of the pixels, four sums per class
    int64_t parts;   // of an image
};

// The loops of one instruction set. Work is divided into pieces [begin, end).
struct Loops {
    const char* name;
    bool (*run)(const Task&, int64_t begin, int64_t end);
    void (*run_confusion)(const ConfusionTask&, int64_t begin, int64_t end, float* scratch);
};

// Those of the widest instruction set of this processor.
extern const Loops loops;

#define PIXELWISE_DECLARE(isa)                                                                                         \
    namespace isa {                                                                                                    \
    bool run(const Task& task, int64_t begin, int64_t end);                                                            \
    void run_confusion(const ConfusionTask& task, int64_t begin, int64_t end, float* scratch);                         \
    }
PIXELWISE_DECLARE(baseline)
PIXELWISE_DECLARE(avx2)
PIXELWISE_DECLARE(avx512)

// Runs work(data, begin, end) for pieces of [0, count) on several threads; each takes the next piece until none is left.
void run_pieces(int64_t threads, int64_t count, int64_t piece, void (*work)(void*, int64_t, int64_t), void* data);

// With fewer elements, starting a thread takes longer than it saves.
inline int64_t count_threads(int64_t elements, int64_t most) {
    constexpr int64_t worth_a_thread = 32768;
    const int64_t threads = elements / worth_a_thread + 1;
    return threads < most ? threads : most;
}

} // namespace pixelwise
#endif
