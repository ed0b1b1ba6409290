// The loops of the soft confusion matrix, compiled once per instruction set.
//
// A block of pixels is held in float32, one row per class, so that a vector holds one class of neighboring pixels in
// both memory formats. The block stays in the L1 cache for all passes over it.

#include <cmath>

#include "task.h"
#include "vectors.h"

namespace pixelwise {
namespace PIXELWISE_ISA {

constexpr int score_lanes = vector_bytes / int(sizeof(float));
using Score = Floats<score_lanes>;
using ScoreBits = Vector<int32_t, score_lanes>;

// exp(x) for x of at most 0, with a relative error of 1e-7: 2^n times a polynomial (Cephes). NaN stays.
inline Score exponential(const Score& x) {
    const Score magic = filled<Score>(12582912.f); // its last bit is worth 1
    const Score shifted = x * 1.44269504f + magic, n = shifted - magic;
    const Score r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Score p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    const ScoreBits power = ((ScoreBits)shifted - (ScoreBits)magic + 127) << 23;
    return select(x < -87.f, Score{}, p * (Score)power);
}

// log(x) for x of at least 1, as exponent * log 2 + 2 atanh((m - 1) / (m + 1)) with m in [0.7, 1.4]. 0 for 1. NaN stays.
inline Score logarithm(const Score& x) {
    const ScoreBits exponent = ((ScoreBits)x - 0x3f3504f3) >> 23; // of x / sqrt(1/2)
    const Score m = (Score)((ScoreBits)x - (exponent << 23));
    const Score t = (m - 1.f) / (m + 1.f), square = t * t;
    const Score series = (((square * (1 / 9.f) + 1 / 7.f) * square + 1 / 5.f) * square + 1 / 3.f) * square + 1.f;
    return __builtin_convertvector(exponent, Score) * 0.693147181f + 2.f * t * series + (x - x);
}

template <typename Raw> struct Confusion {
    static constexpr int lanes = score_lanes;
    static constexpr int64_t block = ConfusionTask::block;
    const ConfusionTask& task;
    float* const rows;   // (classes, block): scores, then exp(score - maximum)
    float* const memory; // (block, classes)
    const int64_t classes = task.sizes->classes, pixels = task.sizes->pixels;
    const float gamma = float(task.sizes->gamma);
    const bool channels_last = task.sizes->channels_last;
    // Of each pixel; weights behind the last pixel are 0. `log_p` and `p` are of the true class.
    int64_t label[block];
    float weight[block], log_p[block], p[block], inverse[block], rest[block];

    Confusion(const ConfusionTask& given, float* scratch)
        : task(given), rows(scratch), memory(scratch + task.sizes->classes * block) {}

    int64_t find(int64_t image, int64_t pixel) const {
        return image * classes * pixels + pixel * (channels_last ? classes : 1);
    }

    // Memory of channels_last is converted as a whole, because single values of two bytes are slow.
    void read_block(const Raw* from, int64_t n) const {
        if (channels_last) {
            convert(n * classes, [&](int64_t i, auto width) {
                store<false>(memory + i, read<Raw, decltype(width)::value>(from + i));
            });
            for (int64_t c = 0; c < classes; ++c)
                for (int64_t i = 0; i < n; ++i) rows[c * block + i] = memory[i * classes + c];
        } else
            for (int64_t c = 0; c < classes; ++c)
                convert(n, [&](int64_t i, auto width) {
                    store<false>(rows + c * block + i, read<Raw, decltype(width)::value>(from + c * pixels + i));
                });
    }

    void write_block(Raw* to, int64_t n) const {
        if (channels_last) {
            for (int64_t c = 0; c < classes; ++c)
#pragma GCC unroll 8
                for (int64_t i = 0; i < n; ++i) memory[i * classes + c] = rows[c * block + i];
            convert(n * classes, [&](int64_t i, auto width) {
                constexpr int L = decltype(width)::value;
                write<Raw, L>(to + i, load<Floats<L>>(memory + i));
            });
        } else
            for (int64_t c = 0; c < classes; ++c)
                convert(n, [&](int64_t i, auto width) {
                    constexpr int L = decltype(width)::value;
                    write<Raw, L>(to + c * pixels + i, load<Floats<L>>(rows + c * block + i));
                });
    }

    // Calls step(i, number of values) until n values are converted, with vectors where possible.
    template <typename Step> void convert(int64_t n, const Step& step) const {
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) step(i, std::integral_constant<int, lanes>{});
        for (; i < n; ++i) step(i, std::integral_constant<int, 1>{});
    }

    // Reads n pixels and computes their softmax, without the division. `padded` are whole vectors.
    template <bool backward> void start(int64_t image, int64_t pixel, int64_t n, int64_t padded) {
        read_block(static_cast<const Raw*>(task.scores) + find(image, pixel), n);
        for (int64_t i = n; i < padded; ++i)
            for (int64_t c = 0; c < classes; ++c) rows[c * block + i] = 0;
        for (int64_t i = 0; i < padded; ++i) {
            label[i] = i < n ? task.classes[image * pixels + pixel + i] : 0;
            weight[i] = i < n ? task.weights[image * pixels + pixel + i] : 0;
            log_p[i] = rows[label[i] * block + i];
        }
        for (int64_t i = 0; i < padded; i += lanes) {
            Score highest = load<Score>(rows + i);
            for (int64_t c = 1; c < classes; ++c) {
                const Score score = load<Score>(rows + c * block + i);
                highest = select(score > highest, score, highest);
            }
            Score sum{}, dot{};
            for (int64_t c = 0; c < classes; ++c) {
                float* const value = rows + c * block + i;
                const Score power = exponential(load<Score>(value) - highest);
                store<false>(value, power);
                sum += power;
                if constexpr (backward) dot += power * task.slopes[3 * classes + c];
            }
            const Score scale = 1.f / sum;
            store<false>(inverse + i, scale);
            if constexpr (backward) store<false>(rest + i, dot * scale);
            else store<false>(log_p + i, load<Score>(log_p + i) - highest - logarithm(sum));
        }
        for (int64_t i = 0; i < padded; ++i) p[i] = rows[label[i] * block + i] * inverse[i];
    }

    void sum_block(int64_t n, int64_t padded, float* sums) {
        for (int64_t i = 0; i < n; ++i) {
            const float factor = gamma == 0 ? 1.f : powf(-expm1f(log_p[i]), gamma);
            float* const by_true = sums + label[i];
            by_true[0] -= weight[i] * factor * log_p[i];
            by_true[classes] += weight[i] * p[i];
            by_true[2 * classes] += weight[i];
        }
        for (int64_t i = 0; i < padded; i += lanes)
            store<false>(inverse + i, load<Score>(inverse + i) * load<Score>(weight + i));
        for (int64_t c = 0; c < classes; ++c) {
            Score sum{};
            for (int64_t i = 0; i < padded; i += lanes)
                sum += load<Score>(rows + c * block + i) * load<Score>(inverse + i);
            for (int lane = 0; lane < lanes; ++lane) sums[3 * classes + c] += sum[lane];
        }
    }

    // The formula is in losses/soft_confusion.py. Here p becomes t.
    void backpropagate_block(int64_t image, int64_t pixel, int64_t n, int64_t padded) {
        const float *of_entropy = task.slopes, *of_true = of_entropy + classes, *of_class = of_true + 2 * classes;
        for (int64_t i = 0; i < padded; ++i)
            p[i] = of_true[label[i]] * p[i] + of_entropy[label[i]] * (gamma == 0 ? -1.f : focal_slope(p[i]));
        for (int64_t i = 0; i < padded; i += lanes) {
            const Score t = load<Score>(p + i), r = load<Score>(rest + i) + t;
            const Score factor = load<Score>(inverse + i) * load<Score>(weight + i);
            for (int64_t c = 0; c < classes; ++c) {
                float* const value = rows + c * block + i;
                store<false>(value, load<Score>(value) * factor * (of_class[c] - r));
            }
        }
        for (int64_t i = 0; i < n; ++i) rows[label[i] * block + i] += p[i] * weight[i];
        write_block(static_cast<Raw*>(task.gradient) + find(image, pixel), n);
    }

    // The derivative of -(1 - p)^gamma * log p with respect to log p.
    float focal_slope(float probability) const {
        constexpr float tiny = 1.17549435e-38f; // 0 to a negative power, times log 1, would be NaN
        const float missing = 1 - probability < tiny ? tiny : 1 - probability;
        const float least = probability < tiny ? tiny : probability;
        return gamma * powf(missing, gamma - 1) * probability * logf(least) - powf(missing, gamma);
    }

    void run(int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
            const int64_t image = part / task.parts, first = part % task.parts * ConfusionTask::part_pixels;
            const int64_t last = smaller(first + ConfusionTask::part_pixels, pixels);
            for (int64_t pixel = first; pixel < last; pixel += block) {
                const int64_t n = smaller(block, last - pixel), padded = (n + lanes - 1) / lanes * lanes;
                if (task.gradient) {
                    start<true>(image, pixel, n, padded);
                    backpropagate_block(image, pixel, n, padded);
                } else {
                    start<false>(image, pixel, n, padded);
                    sum_block(n, padded, task.partials + part * 4 * classes);
                }
            }
        }
    }
};

void run_confusion(const ConfusionTask& task, int64_t begin, int64_t end, float* scratch) {
    if (task.sizes->dtype == PIXELWISE_FLOAT32) Confusion<float>(task, scratch).run(begin, end);
    else Confusion<uint16_t>(task, scratch).run(begin, end);
}

} // namespace PIXELWISE_ISA
} // namespace pixelwise
