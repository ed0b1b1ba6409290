// Pooling and unpooling: divides the rows of windows among threads.

#include "pooling.h"

#include <atomic>

#include "task.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pixelwise {
namespace {

struct Shared {
    const Task& task;
    std::atomic<bool> astray{false};
};

constexpr int64_t element_bytes[] = {4, 8, 2, 2};

// Maps of this size leave the caches before they are read again. Stores that bypass the caches avoid
// reading the memory first: unpooling (8, 64, 240, 320) takes 5 ms instead of 11.
constexpr int64_t stream_bytes = int64_t(8) << 20;
constexpr int64_t line = 64;

// Such stores must be aligned, and steps must not overlap: vectors of at least half a cache line must
// divide the channels, or the complete windows of a row.
bool may_stream(Work work, const pixelwise_map& map, const void* full, const void* pooled) {
    const bool to_full = work == Work::unpool;
    const int64_t element = element_bytes[map.dtype];
    const int64_t rows = map.planes * (to_full ? map.height : map.pooled_height);
    const int64_t row = (to_full ? map.width : map.pooled_width) * map.inner * element;
    const int64_t whole = map.width / map.kernel < map.pooled_width ? map.width / map.kernel : map.pooled_width;
    const int64_t steps = (map.inner > 1 ? map.inner : whole) * element;
    const auto start = reinterpret_cast<uintptr_t>(to_full ? full : pooled);
    return rows * row >= stream_bytes && start % line == 0 && row % line == 0 && steps % (line / 2) == 0;
}

bool run(Work work, const pixelwise_map* map, const void* full, const void* pooled, const uint8_t* switches) {
    const int64_t rows = map->planes * map->pooled_height;
    if (rows == 0 || map->inner == 0) return false;
    const Task task{work,
                    map,
                    const_cast<void*>(full),
                    const_cast<void*>(pooled),
                    const_cast<uint8_t*>(switches),
                    may_stream(work, *map, full, pooled)};
    const int64_t threads = count_threads(map->planes * map->height * map->width * map->inner, map->threads);
    Shared shared{task};
    run_pieces(
        threads, rows, rows / (threads * 8) + 1,
        [](void* data, int64_t begin, int64_t end) {
            Shared& all = *static_cast<Shared*>(data);
            if (loops.run(all.task, begin, end)) all.astray = true;
        },
        &shared);
    return shared.astray;
}

} // namespace
} // namespace pixelwise

using pixelwise::Work;

void pixelwise_max_pool(const pixelwise_map* map, const void* full, void* pooled, uint8_t* switches) {
    pixelwise::run(Work::pool, map, full, pooled, switches);
}

int pixelwise_max_unpool(const pixelwise_map* map, void* full, const void* pooled, const uint8_t* switches) {
    return pixelwise::run(Work::unpool, map, full, pooled, switches);
}

int pixelwise_take(const pixelwise_map* map, const void* full, void* pooled, const uint8_t* switches) {
    return pixelwise::run(Work::take, map, full, pooled, switches);
}

void pixelwise_use_huge_pages(void* data, int64_t bytes) {
#ifdef __linux__
    constexpr uintptr_t huge = uintptr_t(2) << 20;
    const auto start = reinterpret_cast<uintptr_t>(data);
    const uintptr_t first = (start + huge - 1) / huge * huge, end = (start + uintptr_t(bytes)) / huge * huge;
    if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
    (void)data, (void)bytes;
#endif
}
