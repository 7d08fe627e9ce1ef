// Flash attention of a few tokens, over keys and values in F16, on x86-64 → ggml's results to the bit, sooner.
//
// For fewer tokens than a tile holds, ggml goes through the cache once for every head and token, and for each position calls a dot
// product and expf, and rounds the sum of the values to F16 in memory. Here the heads and tokens that share keys and values go
// through them together, up to four at a time (rows), a block of positions after the other: first all scores of the block, then
// their exponentials, then the sums of the values, which stay in registers. Every single sum is taken in the order of
// ggml_compute_forward_flash_attn_ext_f16_one_chunk (ops.cpp) and rounded where that rounds;
// `products::attention_of_a_few_tokens_is_that_of_ggml` compares them.
//
// project.cmake has the compiler read this file before ops.cpp.

#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "asked.h"
#include "common.h"
#include "ggml-cpu-impl.h"
#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <vector>

extern "C" void fireside_stock_flash_attn_ext(const ggml_compute_params *, ggml_tensor *); // llama.cpp's own
static void ggml_flash_attn_ext_reduce_partials(const ggml_compute_params *, ggml_tensor *, const int64_t, const int64_t);

namespace fireside {
namespace { // nothing is shared between variants for different processors

// As many numbers as ggml takes at once.
#if defined(__AVX512F__)
using vec = __m512;
constexpr int LANES = 16;

inline vec  zero() { return _mm512_setzero_ps(); }
inline vec  all(float x) { return _mm512_set1_ps(x); }
inline vec  load(const float * at) { return _mm512_loadu_ps(at); }
inline void store(float * at, vec x) { _mm512_storeu_ps(at, x); }
inline vec  add(vec x, vec y) { return _mm512_add_ps(x, y); }
inline vec  multiply(vec x, vec y) { return _mm512_mul_ps(x, y); }
inline vec  fma(vec x, vec y, vec z) { return _mm512_fmadd_ps(x, y, z); }
inline vec  larger(vec x, vec y) { return _mm512_max_ps(x, y); }
inline vec  halves(const ggml_fp16_t * at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) at)); }
inline vec  rounded(vec x) { return _mm512_cvtph_ps(_mm512_cvtps_ph(x, 0)); } // to F16 and back

inline __m128 folded(vec x) { // onto four lanes, as _mm512_reduce_add_ps begins
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    const __m256 half = _mm256_add_ps(high, _mm512_castps512_ps256(x));
    return _mm_add_ps(_mm256_extractf128_ps(half, 1), _mm256_castps256_ps128(half));
}

// Half as many, in double precision.
inline __m512d doubles(double x) { return _mm512_set1_pd(x); }
inline __m512d multiply(__m512d x, __m512d y) { return _mm512_mul_pd(x, y); }
inline __m512d fma(__m512d x, __m512d y, __m512d z) { return _mm512_fmadd_pd(x, y, z); }
inline __m512d less(__m512d x, __m512d y) { return _mm512_sub_pd(x, y); }
inline __m512d widened(const float * at) { return _mm512_cvtps_pd(_mm256_max_ps(_mm256_set1_ps(-104), _mm256_loadu_ps(at))); }
inline void    narrow(float * at, __m512d x) { _mm256_storeu_ps(at, _mm512_cvtpd_ps(x)); }

inline __m512d two_to(const uint64_t * powers, __m512d k) { // its lowest bits, in 32nds
    const __m512i bits = _mm512_castpd_si512(k);
    const __m512i some = _mm512_i64gather_epi64(_mm512_and_si512(bits, _mm512_set1_epi64(31)), powers, 8);
    return _mm512_castsi512_pd(_mm512_add_epi64(some, _mm512_slli_epi64(bits, 47)));
}
#else
using vec = __m256;
constexpr int LANES = 8;

inline vec  zero() { return _mm256_setzero_ps(); }
inline vec  all(float x) { return _mm256_set1_ps(x); }
inline vec  load(const float * at) { return _mm256_loadu_ps(at); }
inline void store(float * at, vec x) { _mm256_storeu_ps(at, x); }
inline vec  add(vec x, vec y) { return _mm256_add_ps(x, y); }
inline vec  multiply(vec x, vec y) { return _mm256_mul_ps(x, y); }
inline vec  fma(vec x, vec y, vec z) { return _mm256_fmadd_ps(x, y, z); }
inline vec  larger(vec x, vec y) { return _mm256_max_ps(x, y); }
inline vec  halves(const ggml_fp16_t * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }
inline vec  rounded(vec x) { return _mm256_cvtph_ps(_mm256_cvtps_ph(x, 0)); }

inline __m128 folded(vec x) { return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)); }

inline __m256d doubles(double x) { return _mm256_set1_pd(x); }
inline __m256d multiply(__m256d x, __m256d y) { return _mm256_mul_pd(x, y); }
inline __m256d fma(__m256d x, __m256d y, __m256d z) { return _mm256_fmadd_pd(x, y, z); }
inline __m256d less(__m256d x, __m256d y) { return _mm256_sub_pd(x, y); }
inline __m256d widened(const float * at) { return _mm256_cvtps_pd(_mm_max_ps(_mm_set1_ps(-104), _mm_loadu_ps(at))); }
inline void    narrow(float * at, __m256d x) { _mm_storeu_ps(at, _mm256_cvtpd_ps(x)); }

inline __m256d two_to(const uint64_t * powers, __m256d k) {
    const __m256i bits = _mm256_castpd_si256(k);
    const __m256i some = _mm256_i64gather_epi64((const long long *) powers, _mm256_and_si256(bits, _mm256_set1_epi64x(31)), 8);
    return _mm256_castsi256_pd(_mm256_add_epi64(some, _mm256_slli_epi64(bits, 47)));
}
#endif

// The sums of four times four lanes: ggml pairs them differently with eight lanes than with sixteen.
inline __m128 sums(__m128 a, __m128 b, __m128 c, __m128 d) {
#if defined(__AVX512F__)
    const __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a)), cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
    return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
#else
    return _mm_hadd_ps(_mm_hadd_ps(a, b), _mm_hadd_ps(c, d));
#endif
}

// What is read a block later.
inline void fetch(const char * from, int64_t numbers) {
    for (int64_t at = 0; at < numbers * (int64_t) sizeof(ggml_fp16_t); at += 64) {
        _mm_prefetch(from + at, _MM_HINT_T1);
    }
}

constexpr int     MOST_ROWS = 4;
constexpr int     BLOCK     = 64;        // positions
constexpr int     STEP      = 4 * LANES; // numbers of a key that ggml multiplies in one step
constexpr int64_t WIDEST    = 256;       // numbers of a key, and of a value
constexpr ggml_fp16_t HIDDEN = 0xfc00;   // minus infinity in a mask

// e^x for x ≤ 0 as expf has it in C libraries that took it from Arm, as glibc did: optimized-routines, math/expf.c. With x =
// (k/32 + r) ln 2, 2^(k/32) is looked up and 2^r a polynomial, in double precision. Compared with expf before its first use, also
// where it is another number if products are rounded before they are added.
class exponential {
  public:
    static const exponential & get() {
        static const exponential one;
        return one;
    }

    void operator()(float * x, int count) const {
        if (!verified) {
            std::transform(x, x + count, x, expf);
        } else {
            fast(x, count);
        }
    }

  private:
    exponential() {
        for (int i = 0; i < 32; ++i) {
            const double power = (double) exp2l(i / 32.0L);
            memcpy(&powers[i], &power, sizeof power);
            powers[i] -= (uint64_t) i << 47;
        }
        float values[4096], same[4096];
        for (int i = 0; i < 4096; ++i) {
            same[i] = i % 2 ? -i / 37.0f : -1.0f / (float) (i + 1);
        }
        same[0] = -0x1.f8cbb2p5f;
        std::copy(same, same + 4096, values);
        fast(values, 4096);
        verified = std::equal(values, values + 4096, same, [](float ours, float x) { return ours == expf(x); });
    }

    // `count` is a multiple of LANES.
    void fast(float * x, int count) const {
        const auto   shift = doubles(0x1.8p52), scale = doubles(0x1.71547652b82fep0 * 32);
        const auto   c0 = doubles(0x1.c6af84b912394p-5 / 32 / 32 / 32), c1 = doubles(0x1.ebfce50fac4f3p-3 / 32 / 32);
        const auto   c2 = doubles(0x1.62e42ff0c52d6p-1 / 32), one = doubles(1);
        for (int i = 0; i < count; i += LANES / 2) {
            const auto at      = widened(x + i); // -104 at least: 0 from there on
            const auto nearest = fma(scale, at, shift);
            const auto r       = fma(scale, at, less(shift, nearest));
            const auto power   = two_to(powers, nearest);
            narrow(x + i, multiply(fma(fma(c0, r, c1), multiply(r, r), fma(c2, r, one)), power));
        }
    }

    uint64_t powers[32]; // 2^(i/32), less what k << 47 adds
    bool     verified = false;
};

// What is to be computed, as ops.cpp names the sizes: keys and values of DK and DV numbers.
struct attention {
    const ggml_tensor * q, * k, * v, * mask, * sinks;
    ggml_tensor *       out;
    float               scale;
    int64_t             heads, group; // as many heads share keys and values

    explicit attention(ggml_tensor * out) :
        q(out->src[0]), k(out->src[1]), v(out->src[2]), mask(out->src[3]), sinks(out->src[4]), out(out),
        scale(ggml_get_op_params_f32(out, 0)), heads(q->ne[2]), group(heads / k->ne[2]) {}

    int64_t tokens() const { return q->ne[1]; }
    int64_t DK() const { return k->ne[0]; }
    int64_t DV() const { return v->ne[0]; }

    // Whether it is one of these. Compiled for AVX512-FP16, ggml adds values of 128 numbers or more in F16.
    bool known() const {
#if defined(__AVX512FP16__)
        const bool exact = DV() < 128;
#else
        const bool exact = true;
#endif
        const bool plain = ggml_get_op_params_f32(out, 1) == 0 && ggml_get_op_params_f32(out, 2) == 0; // no ALiBi, no soft cap
        const bool dense = q->nb[0] == sizeof(float) && k->nb[0] == sizeof(ggml_fp16_t) && v->nb[0] == sizeof(ggml_fp16_t);
        return exact && plain && dense && scale > 0 && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && q->ne[3] == 1 &&
               k->ne[2] == v->ne[2] && heads % k->ne[2] == 0 && DK() % STEP == 0 && DV() % STEP == 0 && DK() <= WIDEST &&
               DV() <= WIDEST && tokens() < (int64_t) ggml_fa_tile_config::Q && (!mask || mask->ne[2] == 1);
    }
};

// One token of one head, and what has been summed up for it.
struct row {
    int64_t             token, head;
    const ggml_fp16_t * mask = nullptr;
    float               largest = -INFINITY, sum = 0; // M and S
    float               query[WIDEST], values[WIDEST];

    void begin(const attention & a, int64_t of_token, int64_t of_head) {
        token = of_token;
        head  = of_head;
        mask  = a.mask ? (const ggml_fp16_t *) ((const char *) a.mask->data + token * a.mask->nb[1]) : nullptr;
        largest = -INFINITY;
        sum     = 0;
        const float * q = (const float *) ((const char *) a.q->data + token * a.q->nb[1] + head * a.q->nb[2]);
        for (int64_t i = 0; i < a.DK(); i += LANES) {
            store(query + i, rounded(load(q + i)));
        }
        std::fill(values, values + a.DV(), 0.0f);
    }

    // Dot products with the keys of a block → weights: e^(score - largest so far), or -1 to skip a position. `shrink`: what the values
    // until then are multiplied with before, 1 unless there is a new largest score. Returns true if nothing is skipped or shrinks.
    bool weigh(const attention & a, int64_t at, int count, float * weights, float * shrink) {
        std::fill(weights + count, weights + BLOCK, -INFINITY);
        vec most = all(-INFINITY), finite = zero(); // 0 as long as all are
        for (int i = 0; i < BLOCK; i += LANES) {
            vec score = multiply(load(weights + i), all(a.scale));
            if (mask && i + LANES <= count) {
                score = add(score, halves(mask + at + i));
            }
            store(weights + i, score);
            most   = larger(most, score);
            finite = fma(score, zero(), finite);
        }
        for (int i = count / LANES * LANES; mask && i < count; ++i) {
            weights[i] += GGML_CPU_FP16_TO_FP32(mask[at + i]);
        }
        float lanes[2][LANES];
        store(lanes[0], most);
        store(lanes[1], finite);
        if (std::count(lanes[1], lanes[1] + LANES, 0.0f) == LANES && *std::max_element(lanes[0], lanes[0] + LANES) <= largest) {
            for (int i = 0; i < BLOCK; i += LANES) {
                store(weights + i, add(load(weights + i), all(-largest)));
            }
            exponential::get()(weights, BLOCK);
            for (int i = 0; i < BLOCK; ++i) {
                sum += weights[i];
            }
            return true;
        }
        for (int i = 0; i < count; ++i) {
            const float score = weights[i];
            shrink[i] = 1;
            if (mask && mask[at + i] == HIDDEN) {
                weights[i] = -1;
                continue;
            }
            if (score > largest) {
                shrink[i]  = expf(largest - score);
                weights[i] = 1;
                largest    = score;
            } else {
                weights[i] = expf(score - largest);
            }
            sum = __builtin_fmaf(sum, shrink[i], weights[i]);
        }
        return false;
    }

    bool masked(int64_t at, int count) const {
        return mask && std::all_of(mask + at, mask + at + count, [](ggml_fp16_t of) { return of == HIDDEN; });
    }

    // What a model adds to the sum of each head.
    void sink(const attention & a) {
        const float score = ((const float *) a.sinks->data)[head];
        float       by = 1, weight = 1;
        if (score > largest) {
            by      = expf(largest - score);
            largest = score;
            scale_values(a, by);
        } else {
            weight = expf(score - largest);
        }
#if defined(__clang__)
        sum = __builtin_fmaf(sum, by, weight);
#else
        sum *= by; // GCC 12 makes no fma here: product and sum are in different basic blocks
        __asm__("" : "+x"(sum));
        sum += weight;
#endif
    }

    void scale_values(const attention & a, float by) {
        for (int64_t i = 0; i < a.DV(); i += LANES) {
            store(values + i, multiply(load(values + i), all(by)));
        }
    }
};

// R rows times the keys of a block. Four positions at a time: their last additions are made together.
template <int R> void multiply_keys(const attention & a, const row * rows, const char * keys, int count, float (*scores)[BLOCK]) {
    for (int p = 0; p < count; p += 4) {
        __m128 parts[R][4];
        for (int i = 0; i < 4; ++i) {
            fetch(keys + (BLOCK + p + i) * a.k->nb[1], a.DK());
            const ggml_fp16_t * key = (const ggml_fp16_t *) (keys + std::min(p + i, count - 1) * a.k->nb[1]);
            vec                 sum[R][4];
            for (int r = 0; r < R; ++r) {
                sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = zero();
            }
            for (int64_t d = 0; d < a.DK(); d += STEP) {
                for (int j = 0; j < 4; ++j) {
                    const vec some = halves(key + d + j * LANES);
                    for (int r = 0; r < R; ++r) {
                        sum[r][j] = fma(some, load(rows[r].query + d + j * LANES), sum[r][j]);
                    }
                }
            }
            for (int r = 0; r < R; ++r) {
                parts[r][i] = folded(add(add(sum[r][0], sum[r][2]), add(sum[r][1], sum[r][3])));
            }
        }
        for (int r = 0; r < R; ++r) {
            _mm_storeu_ps(scores[r] + p, sums(parts[r][0], parts[r][1], parts[r][2], parts[r][3]));
        }
    }
}

// The values of a block, added to those of R rows. `plain`: each is added, and nothing shrinks.
template <int R, bool plain>
void add_values(const attention & a, row * rows, const char * values, int count, float (*weights)[BLOCK], float (*shrink)[BLOCK]) {
    for (int64_t d = 0; d < a.DV(); d += STEP) {
        vec sum[R][4];
        for (int r = 0; r < R; ++r) {
            for (int j = 0; j < 4; ++j) {
                sum[r][j] = load(rows[r].values + d + j * LANES);
            }
        }
        for (int p = 0; p < count; ++p) {
            if (d == 0) {
                fetch(values + (BLOCK + p) * a.v->nb[1], a.DV());
            }
            const ggml_fp16_t * value = (const ggml_fp16_t *) (values + p * a.v->nb[1]) + d;
            const vec some[4] = { halves(value), halves(value + LANES), halves(value + 2 * LANES), halves(value + 3 * LANES) };
            for (int r = 0; r < R; ++r) {
                const vec weight = all(weights[r][p]);
                if (!plain && weights[r][p] < 0) {
                    continue;
                }
                for (int j = 0; j < 4; ++j) {
                    if (!plain && shrink[r][p] != 1) {
                        sum[r][j] = rounded(multiply(sum[r][j], all(shrink[r][p])));
                    }
                    sum[r][j] = rounded(fma(some[j], weight, sum[r][j]));
                }
            }
        }
        for (int r = 0; r < R; ++r) {
            for (int j = 0; j < 4; ++j) {
                store(rows[r].values + d + j * LANES, sum[r][j]);
            }
        }
    }
}

// R rows that share keys and values, over a block of positions.
template <int R> void attend(const attention & a, row * rows, int64_t at, int count) {
    if (std::all_of(rows, rows + R, [&](const row & one) { return one.masked(at, count); })) {
        return;
    }
    const int64_t shared = rows[0].head / a.group;
    const char *  keys   = (const char *) a.k->data + shared * a.k->nb[2] + at * a.k->nb[1];
    const char *  values = (const char *) a.v->data + shared * a.v->nb[2] + at * a.v->nb[1];
    float         weights[R][BLOCK], shrink[R][BLOCK];
    multiply_keys<R>(a, rows, keys, count, weights);
    bool plain = true, of[R];
    for (int r = 0; r < R; ++r) {
        of[r] = rows[r].weigh(a, at, count, weights[r], shrink[r]);
        plain = plain && of[r];
    }
    if (plain) {
        return add_values<R, true>(a, rows, values, count, weights, nullptr);
    }
    for (int r = 0; r < R; ++r) {
        if (of[r]) {
            std::fill(shrink[r], shrink[r] + count, 1.0f);
        }
    }
    add_values<R, false>(a, rows, values, count, weights, shrink);
}

// The rows from `from` to before `end`, each with those that it shares keys and values with, over the positions from `first` to before
// `last`: a block for all of them before the next, so that memory is read in order.
inline void attend(const attention & a, row * from, row * end, int64_t first, int64_t last) {
    for (int64_t at = first; at < last; at += BLOCK) {
        const int count = (int) std::min<int64_t>(BLOCK, last - at);
        for (row * some = from, * next; some < end; some = next) {
            const auto other = [&](const row & one) { return one.head / a.group != some->head / a.group; };
            next = std::find_if(some, std::min(some + MOST_ROWS, end), other);
            switch (next - some) {
                case 1: attend<1>(a, some, at, count); break;
                case 2: attend<2>(a, some, at, count); break;
                case 3: attend<3>(a, some, at, count); break;
                case 4: attend<4>(a, some, at, count); break;
            }
        }
    }
    for (row * one = from; one < end && a.sinks && first == 0; ++one) {
        one->sink(a);
    }
}

// Each of the threads that compute it calls this. One token over a long cache: each thread takes a part of the cache, and llama.cpp
// puts the parts together. Otherwise a thread takes some rows at a time.
inline void compute(const ggml_compute_params * params, const attention & a) {
    const int64_t positions = a.k->ne[1], thread = params->ith, threads = params->nth;
    static thread_local std::vector<row> rows;
    if (a.tokens() == 1 && positions >= 512) {
        const int64_t part = (positions + threads - 1) / threads, first = std::min(thread * part, positions);
        const int64_t size = 2 + a.DV();
        float *       parts = (float *) params->wdata + threads * (a.DK() + 2 * a.DV() + CACHE_LINE_SIZE_F32) + thread * size;
        rows.resize(a.heads);
        for (int64_t head = 0; head < a.heads; ++head) {
            rows[head].begin(a, 0, head);
        }
        attend(a, rows.data(), rows.data() + a.heads, first, std::min(first + part, positions));
        for (const row & one : rows) {
            float * to = parts + one.head * threads * size;
            to[0] = one.largest;
            to[1] = one.sum;
            std::copy(one.values, one.values + a.DV(), to + 2);
        }
        ggml_barrier(params->threadpool);
        return ggml_flash_attn_ext_reduce_partials(params, a.out, threads, part);
    }
    if (thread == 0) {
        ggml_threadpool_chunk_set(params->threadpool, (int) threads);
    }
    ggml_barrier(params->threadpool);
    const int64_t sharing = a.group * a.tokens(), shared_heads = a.heads / a.group;
    const int64_t at_once = std::clamp<int64_t>(sharing * shared_heads / (2 * threads), 1, MOST_ROWS);
    const int64_t units   = (sharing + at_once - 1) / at_once;
    for (int64_t unit = thread; unit < units * shared_heads; unit = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t from = unit % units * at_once, to = std::min(from + at_once, sharing);
        rows.resize(to - from);
        for (int64_t i = from; i < to; ++i) {
            rows[i - from].begin(a, i / a.group, unit / units * a.group + i % a.group);
        }
        attend(a, rows.data(), rows.data() + rows.size(), 0, positions);
        for (row & one : rows) {
            one.scale_values(a, one.sum == 0 ? 0 : 1 / one.sum);
            float * out = (float *) ((char *) a.out->data + (one.head + one.token * a.out->ne[1]) * a.out->nb[1]);
            std::copy(one.values, one.values + a.DV(), out);
        }
    }
}

} // namespace
} // namespace fireside

void ggml_compute_forward_flash_attn_ext(const ggml_compute_params * params, ggml_tensor * out) {
    const fireside::attention a(out);
    if (!fireside::asked() || params->use_ref || !a.known()) {
        return fireside_stock_flash_attn_ext(params, out);
    }
    fireside::compute(params, a);
}

#define ggml_compute_forward_flash_attn_ext fireside_stock_flash_attn_ext

#endif
