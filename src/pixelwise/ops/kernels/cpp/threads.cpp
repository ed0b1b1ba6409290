// The choice of the instruction set, and the threads.

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "task.h"

// The OpenMP runtime that PyTorch loaded, if any: its threads already run, and the threads of a second
// runtime would compete for the cores. The symbol is weak, so the library also loads without a runtime.
#if defined(__ELF__)
extern "C" void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned) __attribute__((weak));
#endif

namespace pixelwise {
namespace {

// The environment can select a narrower instruction set for tests.
Loops choose() {
#if defined(PIXELWISE_X86)
    const char* asked = std::getenv("PIXELWISE_INSTRUCTIONS");
    const auto may = [asked](const char* name) { return !asked || !std::strcmp(asked, name); };
    __builtin_cpu_init();
    if (may("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi2"))
        return {"avx512", avx512::run, avx512::run_confusion};
    if (may("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("fma"))
        return {"avx2", avx2::run, avx2::run_confusion};
#endif
    return {"baseline", baseline::run, baseline::run_confusion};
}

// Each thread takes the next piece until none is left, so any number of threads works.
struct Shared {
    int64_t count, piece;
    void (*work)(void*, int64_t, int64_t);
    void* data;
    std::atomic<int64_t> next{0};
};

void work_on(void* data) {
    Shared& shared = *static_cast<Shared*>(data);
    for (int64_t begin; (begin = shared.next.fetch_add(shared.piece)) < shared.count;) {
        const int64_t end = begin + shared.piece < shared.count ? begin + shared.piece : shared.count;
        shared.work(shared.data, begin, end);
    }
}

bool has_openmp() {
#if defined(__ELF__)
    return GOMP_parallel != nullptr;
#else
    return false;
#endif
}

} // namespace

const Loops loops = choose();

void run_pieces(int64_t threads, int64_t count, int64_t piece, void (*work)(void*, int64_t, int64_t), void* data) {
    Shared shared{count, piece, work, data};
    if (threads <= 1) return work_on(&shared);
#if defined(__ELF__)
    if (has_openmp()) return GOMP_parallel(work_on, &shared, unsigned(threads), 0);
#endif
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(work_on, &shared);
    work_on(&shared);
    for (std::thread& other : others) other.join();
}

} // namespace pixelwise

const char* pixelwise_instructions(void) { return pixelwise::loops.name; }

const char* pixelwise_threads(void) { return pixelwise::has_openmp() ? "openmp" : "own"; }
