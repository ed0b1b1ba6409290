// The C interface: chooses the instruction set and divides the rows among threads.

#include "pooling.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "task.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

// The OpenMP runtime that PyTorch loaded, if any: its threads already run, and the threads of a second
// runtime would compete for the cores. The symbol is weak, so the library also loads without a runtime.
#if defined(__ELF__)
extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
#endif

namespace pixelwise {
namespace {

using Run = bool (*)(const Task&, int64_t, int64_t);

struct Choice {
    const char* name;
    Run run;
};

// The widest instruction set of this processor. The environment can select a narrower one for tests.
Choice choose() {
#if defined(PIXELWISE_X86)
    const char* asked = std::getenv("PIXELWISE_INSTRUCTIONS");
    const auto may = [asked](const char* name) { return !asked || !std::strcmp(asked, name); };
    __builtin_cpu_init();
    if (may("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2"))
        return {"avx512", avx512::run};
    if (may("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma"))
        return {"avx2", avx2::run};
#endif
    return {"baseline", baseline::run};
}

const Choice choice = choose();

// Each thread takes the next piece until none is left, so any number of threads works.
struct Shared {
    const Task& task;
    int64_t rows, piece;
    std::atomic<int64_t> next{0};
    std::atomic<bool> astray{false};
};

void work_on(void* data) {
    Shared& shared = *static_cast<Shared*>(data);
    for (int64_t begin; (begin = shared.next.fetch_add(shared.piece)) < shared.rows;) {
        const int64_t end = begin + shared.piece < shared.rows ? begin + shared.piece : shared.rows;
        if (choice.run(shared.task, begin, end)) shared.astray = true;
    }
}

bool has_openmp() {
#if defined(__ELF__)
    return GOMP_parallel != nullptr;
#else
    return false;
#endif
}

void on_threads(int64_t threads, Shared& shared) {
    if (threads <= 1) return work_on(&shared);
#if defined(__ELF__)
    if (has_openmp()) return GOMP_parallel(work_on, &shared, unsigned(threads), 0);
#endif
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(work_on, &shared);
    work_on(&shared);
    for (std::thread& other : others) other.join();
}

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
    // With fewer elements, starting a thread takes longer than it saves.
    constexpr int64_t worth_a_thread = 32768;
    const int64_t elements = map->planes * map->height * map->width * map->inner;
    int64_t threads = elements / worth_a_thread + 1;
    threads = threads < map->threads ? threads : map->threads;
    Shared shared{task, rows, rows / (threads * 8) + 1};
    on_threads(threads, shared);
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

const char* pixelwise_instructions(void) { return pixelwise::choice.name; }

const char* pixelwise_threads(void) { return pixelwise::has_openmp() ? "openmp" : "own"; }
