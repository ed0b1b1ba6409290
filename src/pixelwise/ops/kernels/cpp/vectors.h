// Vectors of the compiler's extension (GCC, Clang): one source serves AVX-512, AVX2, SSE2 and NEON.

#ifndef PIXELWISE_VECTORS_H
#define PIXELWISE_VECTORS_H

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace pixelwise {
namespace PIXELWISE_ISA {

#if defined(__AVX512BW__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <typename T, int L> struct VectorOf {
    typedef T type __attribute__((vector_size(sizeof(T) * L)));
};
template <typename T> struct VectorOf<T, 1> {
    typedef T type;
};
template <typename T, int L> using Vector = typename VectorOf<T, L>::type;

template <typename V> inline V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}

// A load that also prefetches 4 KiB ahead in the same stream. The hardware prefetcher does not follow
// two rows read in turn: with this, pooling (8, 64, 240, 320) is as fast as a copy, without it half as fast.
template <typename V> inline V load_ahead(const void* from) {
    constexpr int64_t ahead_bytes = 4096;
    __builtin_prefetch(static_cast<const char*>(from) + ahead_bytes);
    return load<V>(from);
}

// Stores that bypass the caches, for maps too large to stay in a cache until they are read again.
template <bool stream, typename V> inline void store(void* to, const V& value) {
#if defined(__AVX512F__)
    if constexpr (stream && sizeof(V) == 64) {
        _mm512_stream_si512(static_cast<__m512i*>(to), load<__m512i>(&value));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (stream && sizeof(V) == 32) {
        _mm256_stream_si256(static_cast<__m256i*>(to), load<__m256i>(&value));
        return;
    }
#endif
#if defined(__SSE2__)
    if constexpr (stream && sizeof(V) == 16) {
        _mm_stream_si128(static_cast<__m128i*>(to), load<__m128i>(&value));
        return;
    }
#endif
    std::memcpy(to, &value, sizeof(V));
}

// Not std::min: the linker could use its copy compiled for AVX-512 on older processors, too.
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline void finish_streams() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

template <typename V, typename T> inline V filled(T value) {
    if constexpr (std::is_arithmetic_v<V>) return V(value);
    else return V{} + value;
}
template <typename M, typename V> inline V select(const M& mask, const V& yes, const V& no) { return mask ? yes : no; }

template <int L> using Floats = Vector<float, L>;

// float32 or bfloat16 in memory, float32 in registers.
template <typename Raw, int L> inline Floats<L> read(const Raw* from) {
    if constexpr (sizeof(Raw) == 4) return load<Floats<L>>(from);
    else if constexpr (L == 1) {
        const uint32_t bits = uint32_t(*from) << 16;
        return load<float>(&bits);
    } else {
        const auto bits = __builtin_convertvector(load<Vector<uint16_t, L>>(from), Vector<uint32_t, L>) << 16;
        return (Floats<L>)bits;
    }
}
template <typename Raw, int L> inline void write(Raw* to, const Floats<L>& value) {
    if constexpr (sizeof(Raw) == 4) store<false>(to, value);
    else {
        const auto bits = load<Vector<uint32_t, L>>(&value);
        // To the nearest, ties to even; a NaN could otherwise become an infinity.
        const auto rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        const auto kept = select(value == value, rounded, filled<Vector<uint32_t, L>>(uint32_t(0x7fc0)));
        if constexpr (L == 1) *to = Raw(kept);
        else store<false>(to, __builtin_convertvector(kept, Vector<uint16_t, L>));
    }
}

} // namespace PIXELWISE_ISA
} // namespace pixelwise
#endif
