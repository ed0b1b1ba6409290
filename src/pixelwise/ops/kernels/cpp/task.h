// The arguments of the loops.

#ifndef PIXELWISE_TASK_H
#define PIXELWISE_TASK_H

#include "pooling.h"

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

#define PIXELWISE_DECLARE(isa)                                                                                         \
    namespace isa {                                                                                                    \
    bool run(const Task& task, int64_t begin, int64_t end);                                                            \
    }
PIXELWISE_DECLARE(baseline)
PIXELWISE_DECLARE(avx2)
PIXELWISE_DECLARE(avx512)

} // namespace pixelwise
#endif
