// The loops, compiled once per instruction set, which PIXELWISE_ISA names.
//
// A step processes L neighboring windows: neighbors in a row of a contiguous map, or channels of one
// position in channels_last. If L does not divide a row, the last step overlaps the one before it and
// writes the same values again. Rows shorter than L use a shorter vector.

#include "task.h"
#include "vectors.h"

namespace pixelwise {
namespace PIXELWISE_ISA {

// Types of an element: `Raw` is loaded and stored, `Index` is the integer of the same width.
struct Float32 {
    using Raw = float;
    using Index = int32_t;
};
struct Float64 {
    using Raw = double;
    using Index = int64_t;
};
struct BFloat16 {
    using Raw = int16_t;
    using Index = int16_t;
    static constexpr int16_t infinity = 0x7f80;
};
struct Float16 {
    using Raw = int16_t;
    using Index = int16_t;
    static constexpr int16_t infinity = 0x7c00;
};

// The maximum so far of L windows, and its position.
template <typename E, int L> struct Best {
    using Values = Vector<typename E::Raw, L>;
    using Indices = Vector<typename E::Index, L>;
    Values values;
    Indices places;

    void start(const Values& candidate) {
        values = candidate;
        places = Indices{};
    }
    void meet(const Values& candidate, typename E::Index place) {
        const auto wins = (candidate > values) | (candidate != candidate);
        values = select(wins, candidate, values);
        places = select(wins, filled<Indices>(place), places);
    }
};

// 16-bit floats are compared as integers of the same order: -infinity is 0, both zeros are equal,
// +infinity is twice its bits, every NaN is larger.
template <typename E, int L> struct HalfBest {
    using Values = Vector<int16_t, L>;
    using Keys = Vector<uint16_t, L>;
    static constexpr uint16_t top = 2 * E::infinity;
    Values values, places;
    Keys keys;

    static Keys key(const Values& bits) {
        const Values sign = bits >> 15;
        // Unsigned, because the additions wrap around.
        const Keys offset = filled<Keys>(uint16_t(E::infinity)) + ((Keys)sign & filled<Keys>(uint16_t(0x8001)));
        return (Keys)(Values)(bits ^ sign) + offset;
    }
    void start(const Values& candidate) {
        values = candidate;
        places = Values{};
        keys = key(candidate);
    }
    void meet(const Values& candidate, int16_t place) {
        const Keys candidate_keys = key(candidate);
        // A NaN also replaces a NaN: the candidate is compared with +infinity then.
        const auto wins = candidate_keys > select(keys < top, keys, filled<Keys>(top));
        values = select(wins, candidate, values);
        keys = select(wins, candidate_keys, keys);
        places = select(wins, filled<Values>(place), places);
    }
};
template <int L> struct Best<BFloat16, L> : HalfBest<BFloat16, L> {};
template <int L> struct Best<Float16, L> : HalfBest<Float16, L> {};

template <typename I, int L> inline Vector<uint8_t, L> narrow(const Vector<I, L>& places) {
    if constexpr (L == 1) return uint8_t(places);
    else return __builtin_convertvector(places, Vector<uint8_t, L>);
}
template <typename I, int L> inline Vector<I, L> widen(const uint8_t* switches) {
    if constexpr (L == 1) return I(*switches);
    else return __builtin_convertvector(load<Vector<uint8_t, L>>(switches), Vector<I, L>);
}

// Whether any of L switches is `limit` or more.
template <int L> inline bool beyond(const uint8_t* switches, int64_t limit) {
    if constexpr (L == 1) return *switches >= limit;
    else {
        const auto over = load<Vector<uint8_t, L>>(switches) >= uint8_t(limit);
        uint64_t words[(L + 7) / 8] = {}, all = 0;
        std::memcpy(words, &over, L);
        for (const uint64_t word : words) all |= word;
        return all != 0;
    }
}

template <typename V, int... I> inline V even(const V& a, const V& b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (2 * I)...);
}
template <typename V, int... I> inline V odd(const V& a, const V& b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (2 * I + 1)...);
}
// a0 b0 a1 b1 ..., from element `start` of both.
template <int start, typename V, int... I> inline V zip(const V& a, const V& b, std::integer_sequence<int, I...>) {
    constexpr int lanes = sizeof...(I);
    return __builtin_shufflevector(a, b, (start + I / 2 + (I % 2) * lanes)...);
}

// The L values at each column of L neighboring 2-wide windows of a contiguous row.
template <typename E, int L> struct Pair {
    Vector<typename E::Raw, L> first, second;
};
template <typename E, int L> inline Pair<E, L> split(const typename E::Raw* row) {
    using V = Vector<typename E::Raw, L>;
    if constexpr (L == 1) return {row[0], row[1]};
    else {
        constexpr auto lanes = std::make_integer_sequence<int, L>{};
        const V a = load_ahead<V>(row), b = load_ahead<V>(row + L);
        return {even(a, b, lanes), odd(a, b, lanes)};
    }
}
template <typename E, int L, bool stream>
inline void join(typename E::Raw* row, const Vector<typename E::Raw, L>& first,
                 const Vector<typename E::Raw, L>& second) {
    if constexpr (L == 1) row[0] = first, row[1] = second;
    else {
        constexpr auto lanes = std::make_integer_sequence<int, L>{};
        store<stream>(row, zip<0>(first, second, lanes));
        store<stream>(row + L, zip<L / 2>(first, second, lanes));
    }
}

// Calls step(i, L) until every i of [0, count) is processed, with the longest vectors that fit. The last
// step may overlap the one before, except with stores that bypass the caches, which must write a line once.
template <int L, bool stream, typename Step> inline void in_steps(int64_t count, const Step& step) {
    if constexpr (L > 1) {
        if (stream ? count % L != 0 : count < L) return in_steps<L / 2, stream>(count, step);
    }
    constexpr std::integral_constant<int, L> width{};
    int64_t i = 0;
    for (; i + L <= count; i += L) step(i, width);
    if (i < count) step(count - L, width);
}

// One row of windows of one plane. `full` points to their first row; `rows` rows of it are inside the map.
template <typename E> struct Row {
    using Raw = typename E::Raw;
    static constexpr int lanes = vector_bytes / int(sizeof(Raw));
    const pixelwise_map& map;
    int64_t rows;

    int64_t kernel() const { return map.kernel; }
    int64_t columns(int64_t window) const { return smaller(map.kernel, map.width - window * map.kernel); }
    // Number of windows with all columns inside the map.
    int64_t whole() const { return smaller(map.pooled_width, map.width / map.kernel); }
    const Raw* at(const Raw* full, int64_t dy, int64_t column) const {
        return full + (dy * map.width + column) * map.inner;
    }

    // Number of complete 2x2 windows, which have their own loops.
    int64_t whole_pairs() const { return kernel() == 2 && rows == 2 ? whole() : 0; }

    struct Window {
        int64_t side, height, width; // nominal side, and the rows and columns inside the map
    };
    // K is 2 for a complete 2x2 window, so that its loops unroll, and 0 for a size known at run time.
    template <int K> Window window_of(int64_t window) const {
        if constexpr (K == 2) return {2, 2, 2};
        else return {kernel(), rows, columns(window)};
    }

    // Whether one of L switches points out of a window with this number of columns.
    template <int L> bool leads_astray(const uint8_t* switches, int64_t columns) const {
        if (columns == kernel()) return beyond<L>(switches, rows * kernel());
        bool astray = false;
        for (int i = 0; i < L; ++i) astray |= switches[i] >= rows * kernel() || switches[i] % kernel() >= columns;
        return astray;
    }

    // Calls step(K, L, window, channel) for each window of a row and all channels; see `pool_step`.
    template <bool stream, typename Step> void each_window(const Step& step) const {
        const auto channels = [&](auto k, int64_t window) {
            in_steps<lanes, stream>(map.inner, [&](int64_t channel, auto width) { step(k, width, window, channel); });
        };
        int64_t window = 0;
        for (; window < whole_pairs(); ++window) channels(std::integral_constant<int, 2>{}, window);
        for (; window < map.pooled_width; ++window) channels(std::integral_constant<int, 0>{}, window);
    }

    // ---- pooling

    template <bool stream> void pool(const Raw* full, Raw* pooled, uint8_t* switches) const {
        if (map.inner > 1) return pool_inner<stream>(full, pooled, switches);
        int64_t window = 0;
        if (kernel() == 2) {
            window = whole();
            in_steps<lanes, stream>(window, [&](int64_t i, auto width) {
                constexpr int L = decltype(width)::value;
                Best<E, L> best;
                const Pair<E, L> top = split<E, L>(full + 2 * i);
                best.start(top.first);
                best.meet(top.second, 1);
                if (rows == 2) {
                    const Pair<E, L> bottom = split<E, L>(full + map.width + 2 * i);
                    best.meet(bottom.first, 2);
                    best.meet(bottom.second, 3);
                }
                store<stream>(pooled + i, best.values);
                store<stream>(switches + i, narrow<typename E::Index, L>(best.places));
            });
        }
        for (; window < map.pooled_width; ++window) pool_step<0, 1, false>(full, window, 0, pooled, switches);
    }

    template <bool stream> void pool_inner(const Raw* full, Raw* pooled, uint8_t* switches) const {
        each_window<stream>([&](auto k, auto width, int64_t window, int64_t channel) {
            pool_step<decltype(k)::value, decltype(width)::value, stream>(full, window, channel, pooled, switches);
        });
    }

    template <int K, int L, bool stream>
    void pool_step(const Raw* full, int64_t window, int64_t channel, Raw* pooled, uint8_t* switches) const {
        using V = Vector<Raw, L>;
        Best<E, L> best;
        best.start(load<V>(at(full, 0, window * kernel()) + channel));
        const auto [side, height, width] = window_of<K>(window);
        for (int64_t dy = 0; dy < height; ++dy)
            for (int64_t dx = dy == 0 ? 1 : 0; dx < width; ++dx)
                best.meet(load_ahead<V>(at(full, dy, window * side + dx) + channel), dy * side + dx);
        store<stream>(pooled + window * map.inner + channel, best.values);
        store<stream>(switches + window * map.inner + channel, narrow<typename E::Index, L>(best.places));
    }

    // ---- unpooling

    template <bool stream> bool unpool(Raw* full, const Raw* pooled, const uint8_t* switches) const {
        bool astray = map.inner > 1 ? unpool_inner<stream>(full, pooled, switches)
                                    : unpool_contiguous<stream>(full, pooled, switches);
        const int64_t used = smaller(map.width, map.pooled_width * kernel());
        for (int64_t dy = 0; used < map.width && dy < rows; ++dy)
            std::memset(full + (dy * map.width + used) * map.inner, 0, (map.width - used) * map.inner * sizeof(Raw));
        return astray;
    }

    template <bool stream> bool unpool_contiguous(Raw* full, const Raw* pooled, const uint8_t* switches) const {
        bool astray = false;
        int64_t window = 0;
        if (kernel() == 2) {
            window = whole();
            in_steps<lanes, stream>(window, [&](int64_t i, auto width) {
                constexpr int L = decltype(width)::value;
                using V = Vector<Raw, L>;
                using I = typename E::Index;
                const V values = load<V>(pooled + i);
                const Vector<I, L> places = widen<I, L>(switches + i);
                astray |= beyond<L>(switches + i, 2 * rows);
                for (int64_t dy = 0; dy < rows; ++dy)
                    join<E, L, stream>(full + dy * map.width + 2 * i, select(places == I(2 * dy), values, V{}),
                                       select(places == I(2 * dy + 1), values, V{}));
            });
        }
        for (; window < map.pooled_width; ++window)
            astray |= unpool_step<0, 1, false>(full, window, 0, pooled, switches);
        return astray;
    }

    template <bool stream> bool unpool_inner(Raw* full, const Raw* pooled, const uint8_t* switches) const {
        bool astray = false;
        each_window<stream>([&](auto k, auto width, int64_t window, int64_t channel) {
            astray |=
                unpool_step<decltype(k)::value, decltype(width)::value, stream>(full, window, channel, pooled, switches);
        });
        return astray;
    }

    template <int K, int L, bool stream>
    bool unpool_step(Raw* full, int64_t window, int64_t channel, const Raw* pooled, const uint8_t* switches) const {
        using V = Vector<Raw, L>;
        using I = typename E::Index;
        const int64_t from = window * map.inner + channel;
        const auto [side, height, width] = window_of<K>(window);
        const V values = load<V>(pooled + from);
        const Vector<I, L> places = widen<I, L>(switches + from);
        for (int64_t dy = 0; dy < height; ++dy)
            for (int64_t dx = 0; dx < width; ++dx) {
                Raw* const to = const_cast<Raw*>(at(full, dy, window * side + dx)) + channel;
                store<stream>(to, select(places == I(dy * side + dx), values, V{}));
            }
        return leads_astray<L>(switches + from, width);
    }

    // ---- reading values at switches

    template <bool stream> bool take(const Raw* full, Raw* pooled, const uint8_t* switches) const {
        if (map.inner > 1) return take_inner<stream>(full, pooled, switches);
        bool astray = false;
        int64_t window = 0;
        if (kernel() == 2) {
            window = whole();
            in_steps<lanes, stream>(window, [&](int64_t i, auto width) {
                constexpr int L = decltype(width)::value;
                using V = Vector<Raw, L>;
                using I = typename E::Index;
                const Vector<I, L> places = widen<I, L>(switches + i);
                astray |= beyond<L>(switches + i, 2 * rows);
                V taken{};
                for (int64_t dy = 0; dy < rows; ++dy) {
                    const Pair<E, L> row = split<E, L>(full + dy * map.width + 2 * i);
                    taken = select(places == I(2 * dy), row.first, taken);
                    taken = select(places == I(2 * dy + 1), row.second, taken);
                }
                store<stream>(pooled + i, taken);
            });
        }
        for (; window < map.pooled_width; ++window) astray |= take_step<0, 1, false>(full, window, 0, pooled, switches);
        return astray;
    }

    template <bool stream> bool take_inner(const Raw* full, Raw* pooled, const uint8_t* switches) const {
        bool astray = false;
        each_window<stream>([&](auto k, auto width, int64_t window, int64_t channel) {
            astray |=
                take_step<decltype(k)::value, decltype(width)::value, stream>(full, window, channel, pooled, switches);
        });
        return astray;
    }

    template <int K, int L, bool stream>
    bool take_step(const Raw* full, int64_t window, int64_t channel, Raw* pooled, const uint8_t* switches) const {
        using V = Vector<Raw, L>;
        using I = typename E::Index;
        const int64_t from = window * map.inner + channel;
        const auto [side, height, width] = window_of<K>(window);
        const Vector<I, L> places = widen<I, L>(switches + from);
        V taken{};
        for (int64_t dy = 0; dy < height; ++dy)
            for (int64_t dx = 0; dx < width; ++dx) {
                const V value = load_ahead<V>(at(full, dy, window * side + dx) + channel);
                taken = select(places == I(dy * side + dx), value, taken);
            }
        store<stream>(pooled + from, taken);
        return leads_astray<L>(switches + from, width);
    }
};

// Processes rows of windows [begin, end), numbered over all planes. Returns whether a switch was out of range.
template <typename E, bool stream>
bool run_rows(const Task& task, int64_t begin, int64_t end) {
    using Raw = typename E::Raw;
    const pixelwise_map& map = *task.map;
    const int64_t full_row = map.width * map.inner, pooled_row = map.pooled_width * map.inner;
    bool astray = false;
    int64_t plane = begin / map.pooled_height, window = begin % map.pooled_height - 1;
    for (int64_t i = begin; i < end; ++i) {
        if (++window == map.pooled_height) window = 0, ++plane;
        const int64_t top = window * map.kernel;
        Raw* full = static_cast<Raw*>(task.full) + (plane * map.height + top) * full_row;
        Raw* pooled = static_cast<Raw*>(task.pooled) + i * pooled_row;
        uint8_t* switches = task.switches + i * pooled_row;
        const Row<E> row{map, smaller(map.kernel, map.height - top)};
        switch (task.work) {
        case Work::pool: row.template pool<stream>(full, pooled, switches); break;
        case Work::take: astray |= row.template take<stream>(full, pooled, switches); break;
        case Work::unpool:
            astray |= row.template unpool<stream>(full, pooled, switches);
            if (window + 1 == map.pooled_height && top + map.kernel < map.height)
                std::memset(full + map.kernel * full_row, 0, (map.height - top - map.kernel) * full_row * sizeof(Raw));
        }
    }
    if (stream) finish_streams();
    return astray;
}

template <typename E> bool run_kind(const Task& task, int64_t begin, int64_t end) {
    return task.stream ? run_rows<E, true>(task, begin, end) : run_rows<E, false>(task, begin, end);
}

bool run(const Task& task, int64_t begin, int64_t end) {
    switch (task.map->dtype) {
    case PIXELWISE_FLOAT32: return run_kind<Float32>(task, begin, end);
    case PIXELWISE_FLOAT64: return run_kind<Float64>(task, begin, end);
    case PIXELWISE_BFLOAT16: return run_kind<BFloat16>(task, begin, end);
    default: return run_kind<Float16>(task, begin, end);
    }
}

} // namespace PIXELWISE_ISA
} // namespace pixelwise
