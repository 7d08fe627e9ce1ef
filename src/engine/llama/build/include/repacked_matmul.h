// Weights of four bits, repacked by ggml, times several columns of finite values, on x86-64 → ggml's results to the bit, sooner.
//
// ggml's kernels bring weights and values into an order for their pairwise products again for every four columns; for the experts of a
// mixture they go through the weights once for each token. Here a block of 16 rows (eight without AVX-512) is spread out once for some 32
// columns, such that each row has a lane and one instruction adds up four products where the processor has one. The sums of
// products are whole numbers, in any order the same; what arch/x86/repack.cpp adds up in floating point, and when, is added up so
// here. `products::products_of_repacked_weights_are_those_of_ggml` and `products::products_of_experts_are_those_of_ggml` compare them.
//
// repacked_products.h is what calls them.

#pragma once

#define GGML_COMMON_DECL_CPP
#define GGML_COMMON_IMPL_CPP
#include "asked.h"
#include "ggml-backend-impl.h"
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "lanes.h"
#include "repack.h"
#include "simd-mappings.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

namespace fireside {
namespace {

constexpr int EIGHT = 8;  // rows of a repacked block
constexpr int STEPS = 8;  // of four weights, in 32 weights
constexpr int TILE  = 4;  // columns at a time
constexpr int MOST  = 32; // columns for which weights are spread out: their values and sums stay in the first cache

inline int32_t four(const void * at) {
    int32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

// Where the values of columns lie. INTERLEAVED: of four columns eight bytes each, in turn.
template <bool INTERLEAVED> constexpr int at(int step) { return INTERLEAVED ? 32 * (step / 2) + 4 * (step % 2) : 4 * step; }

// A format has: the types of a block of eight rows, and of a block of one and of four columns; TOTALS, numbers that follow from a
// column's values alone; weights, a block of rows spread out; sums, of rows and columns.

// 256 weights in eight parts, each with a scale and a minimum of six bits.
struct q4_K {
    using rows    = block_q4_Kx8;
    using column  = block_q8_K;
    using columns = block_q8_Kx4;

    static constexpr int       PARTS = 8, TOTALS = PARTS / 2;
    static constexpr ggml_type VALUES = GGML_TYPE_Q8_K;

    static constexpr auto      INTERLEAVE = ggml_quantize_mat_q8_K_4x8; // numbers of four columns → values

    static float scale(const column & of) { return of.d; }
    static float scale(const columns & of, int c) { return of.d[c]; }

    // Of the values in two parts, in 16 bits each.
    static void totals(int32_t * out, const int16_t * sums, int distance) {
        for (int i = 0; i < TOTALS; ++i, sums += distance) {
            out[i] = (uint16_t) (sums[0] + sums[1]) | (int32_t) ((uint32_t) (sums[2] + sums[3]) << 16);
        }
    }
    static void totals(int32_t * out, const column & of) { totals(out, of.bsums, 4); }
    static void totals(int32_t * out, const columns & of) {
        for (int c = 0; c < TILE; ++c) {
            totals(out + TOTALS * c, of.bsums + 4 * c, 16);
        }
    }

    template <int ROWS> struct weights {
        using of = lanes<ROWS>;
        typename of::ints   quants[PARTS][STEPS];
        typename of::ints   scale[PARTS], minimum[PARTS / 2]; // of two parts each, in 16 bits
        typename of::floats d, dmin;

        weights(const rows * first, int64_t distance) {
            uint16_t ds[ROWS], dmins[ROWS];
            uint8_t  scales[PARTS][ROWS], minima[PARTS][ROWS];
            for (int i = 0; i < ROWS; i += EIGHT) {
                const rows & block = first[i / EIGHT * distance];
                memcpy(ds + i, block.d, sizeof block.d);
                memcpy(dmins + i, block.dmin, sizeof block.dmin);
                for (int part = 0; part < PARTS; ++part) {
                    six_bits(block.scales + 12 * part, scales[part] + i, minima[part] + i);
                }
            }
            d    = of::halves(ds);
            dmin = of::halves(dmins);
            for (int part = 0; part < PARTS; part += 2) {
                scale[part]       = of::bytes(scales[part]);
                scale[part + 1]   = of::bytes(scales[part + 1]);
                minimum[part / 2] = of::two_bytes(minima[part], minima[part + 1]);
                for (int step = 0; step < STEPS; step += 2) {
                    typename of::ints one, next;
                    of::fours(first->qs + 128 * part + 32 * step, distance * sizeof(rows), one, next);
                    quants[part][step]         = of::lower(one);
                    quants[part][step + 1]     = of::lower(next);
                    quants[part + 1][step]     = of::upper(one);
                    quants[part + 1][step + 1] = of::upper(next);
                }
            }
        }

        // Those of a part, for eight rows: of the last four rows, four bits lie together, and two above those of the first four.
        static void six_bits(const uint8_t * from, uint8_t * scales, uint8_t * minima) {
            const uint32_t some = four(from), others = four(from + 4), rest = four(from + 8);
            const auto     last = [](uint32_t four, uint32_t two) { return (four & 0x0f0f0f0f) | (two >> 2 & 0x30303030); };
            const uint32_t two_words[][2] = { { some & 0x3f3f3f3f, last(rest, some) }, { others & 0x3f3f3f3f, last(rest >> 4, others) } };
            memcpy(scales, two_words[0], EIGHT);
            memcpy(minima, two_words[1], EIGHT);
        }
    };

    template <int ROWS> struct sums {
        using of = lanes<ROWS>;
        typename of::floats products = of::zero(), minima = of::zero();

        typename of::floats all() const { return of::less(products, minima); }
    };

    // A single column is scaled once for a block, four columns for every two parts: as ggml does it.
    template <int ROWS, bool INTERLEAVED, int C>
    static void add(sums<ROWS> * to, const weights<ROWS> & x, const int8_t * const * values, const float * scale, const int32_t * totals) {
        using of = lanes<ROWS>;
        typename of::floats products[C], minima[C], d[C], dmin[C];
        typename of::ints   whole[C], low[C];
        for (int c = 0; c < C; ++c) {
            products[c] = to[c].products;
            minima[c]   = to[c].minima;
            d[c]        = of::multiply(x.d, of::all(scale[c]));
            dmin[c]     = of::multiply(x.dmin, of::all(scale[c]));
        }
        for (int part = 0; part < PARTS; part += 2) {
            typename of::ints dots[C][2];
#pragma GCC unroll 8
            for (int step = 0; step < STEPS; ++step) {
#pragma GCC unroll 2
                for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 4
                    for (int c = 0; c < C; ++c) {
                        const int8_t * four_values = values[c] + at<INTERLEAVED>(STEPS * (part + i)) + at<INTERLEAVED>(step);
                        dots[c][i] = of::dot(step == 0 ? of::none() : dots[c][i], x.quants[part + i][step], of::all(four(four_values)));
                    }
                }
            }
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) {
                const auto both    = of::add(of::wide(dots[c][0], x.scale[part]), of::wide(dots[c][1], x.scale[part + 1]));
                const auto minimum = of::pairs(of::all(totals[TOTALS * c + part / 2]), x.minimum[part / 2]);
                if (INTERLEAVED) {
                    products[c] = of::fma(both, d[c], products[c]);
                    minima[c]   = of::fma(minimum, dmin[c], minima[c]);
                } else {
                    whole[c] = part == 0 ? both : of::add(whole[c], both);
                    low[c]   = part == 0 ? minimum : of::add(low[c], minimum);
                }
            }
        }
        for (int c = 0; c < C; ++c) {
            to[c].products = INTERLEAVED ? products[c] : of::fma(whole[c], d[c], products[c]);
            to[c].minima   = INTERLEAVED ? minima[c] : of::fma(low[c], dmin[c], minima[c]);
        }
    }
};

// 32 weights with a scale, each one of 16 values.
template <typename BLOCK> struct q4_32 {
    using rows    = BLOCK;
    using column  = block_q8_0;
    using columns = block_q8_0x4;

    static constexpr int       TOTALS = 1;
    static constexpr ggml_type VALUES = GGML_TYPE_Q8_0;

    static constexpr auto      INTERLEAVE = ggml_quantize_mat_q8_0_4x8;

    // To have no sign, weights are so much larger than their values.
    static constexpr int excess() { return std::is_same<BLOCK, block_q4_0x8>::value ? 8 : std::is_same<BLOCK, block_mxfp4x8>::value ? 12 : 128; }

    static float scale(const column & of) { return GGML_CPU_FP16_TO_FP32(of.d); }
    static float scale(const columns & of, int c) { return GGML_CPU_FP16_TO_FP32(of.d[c]); }

    // What the products are too large by, negative.
    static void totals(int32_t * out, const column & of) {
        int32_t eights[4];
        _mm_storeu_si128((__m128i *) eights, folded(summed(of.qs)));
        *out = -excess() * (eights[0] + eights[1] + eights[2] + eights[3]);
    }
    static void totals(int32_t * out, const columns & of) {
        __m256i sums = summed(of.qs);
        for (int i = 1; i < STEPS / 2; ++i) {
            sums = _mm256_add_epi32(sums, summed(of.qs + 32 * i));
        }
        _mm_storeu_si128((__m128i *) out, _mm_mullo_epi32(folded(sums), _mm_set1_epi32(-excess())));
    }

    // Of four bytes each, and of eight.
    static __m256i summed(const int8_t * of) {
        const __m256i twos = _mm256_maddubs_epi16(_mm256_set1_epi8(1), _mm256_loadu_si256((const __m256i *) of));
        return _mm256_madd_epi16(twos, _mm256_set1_epi16(1));
    }
    static __m128i folded(__m256i fours) { return _mm_hadd_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1)); }

    template <int ROWS> struct weights {
        using of = lanes<ROWS>;
        typename of::ints   quants[STEPS];
        typename of::floats d;

        weights(const rows * first, int64_t distance) {
            d = scales(first, distance);
            uint8_t table[16];
            for (int i = 0; i < 16; ++i) {
                table[i] = (uint8_t) (excess() + value(i));
            }
            for (int step = 0; step < STEPS / 2; step += 2) {
                typename of::ints one, next;
                of::fours((const uint8_t *) first->qs + 32 * step, distance * sizeof(rows), one, next);
                quants[step]                 = of::looked_up(table, of::lower(one));
                quants[step + 1]             = of::looked_up(table, of::lower(next));
                quants[STEPS / 2 + step]     = of::looked_up(table, of::upper(one));
                quants[STEPS / 2 + step + 1] = of::looked_up(table, of::upper(next));
            }
        }

        static int value(int four_bits) {
            if constexpr (std::is_same<BLOCK, block_q4_0x8>::value) {
                return four_bits < 8 ? four_bits : four_bits - 16;
            } else if constexpr (std::is_same<BLOCK, block_mxfp4x8>::value) {
                return kvalues_mxfp4[four_bits];
            } else {
                return kvalues_iq4nl[four_bits];
            }
        }

        static typename of::floats scales(const rows * first, int64_t distance) {
            if constexpr (std::is_same<BLOCK, block_mxfp4x8>::value) {
                uint8_t exponents[ROWS];
                for (int i = 0; i < ROWS; i += EIGHT) {
                    memcpy(exponents + i, first[i / EIGHT * distance].e, EIGHT);
                }
                return of::half_of_two_to(of::bytes(exponents));
            } else {
                uint16_t all[ROWS];
                for (int i = 0; i < ROWS; i += EIGHT) {
                    memcpy(all + i, first[i / EIGHT * distance].d, EIGHT * sizeof *all);
                }
                return of::halves(all);
            }
        }
    };

    template <int ROWS> struct sums {
        using of = lanes<ROWS>;
        typename of::floats products = of::zero();

        typename of::floats all() const { return products; }
    };

    template <int ROWS, bool INTERLEAVED, int C>
    static void add(sums<ROWS> * to, const weights<ROWS> & x, const int8_t * const * values, const float * scale, const int32_t * totals) {
        using of = lanes<ROWS>;
        typename of::ints dots[C][2]; // of half the products each: 16 bits hold no more
#pragma GCC unroll 4
        for (int step = 0; step < STEPS / 2; ++step) {
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    const auto y = of::all(four(values[c] + at<INTERLEAVED>(STEPS / 2 * i + step)));
                    dots[c][i] = of::dot(step == 0 ? of::none() : dots[c][i], x.quants[STEPS / 2 * i + step], y);
                }
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) {
            const auto sum = of::add(of::add(of::wide(dots[c][0]), of::wide(dots[c][1])), of::all(totals[c]));
            to[c].products = of::fma(sum, of::multiply(x.d, of::all(scale[c])), to[c].products);
        }
    }
};

// Up to MOST columns, four each interleaved, and then up to three single ones; or up to MOST single ones. Those are computed four at a
// time too, the last one several times, unless there is one only.
template <typename F> struct group {
    const int64_t          blocks; // of a column
    int64_t                fours = 0, singles = 0, count = 0, width = 0; // width: of all columns, with those that are there several times
    const void *           from[MOST + TILE]; // the first block
    const int8_t *         values[MOST + TILE];
    float *                out[MOST + TILE]; // a number for each row
    std::vector<float>     scales;
    std::vector<int32_t>   totals;

    explicit group(int64_t blocks) : blocks(blocks) {}

    // `stride`: numbers from one column's to the next one's. These come before single ones.
    void push(const typename F::columns * four, float * to, int64_t stride) {
        for (int i = 0; i < TILE; ++i) {
            push(four, four->qs + 8 * i, to + i * stride);
        }
        ++fours;
    }
    void push(const typename F::column * one, float * to) {
        push(one, one->qs, to);
        ++singles;
    }
    void push(const void * block, const int8_t * first, float * to) {
        from[count]   = block;
        values[count] = first;
        out[count++]  = to;
    }

    // Called when all are there.
    void complete() {
        width = TILE * fours + (singles == 1 ? 1 : (singles + TILE - 1) / TILE * TILE);
        std::fill(from + count, from + width, from[count - 1]);
        std::fill(values + count, values + width, values[count - 1]);
        scales.resize(width * blocks);
        totals.resize(width * blocks * F::TOTALS);
        for (int64_t b = 0, at = 0; b < blocks; ++b) {
            for (int64_t c = 0; c < TILE * fours; c += TILE, at += TILE) {
                const auto & of = ((const typename F::columns *) from[c])[b];
                F::totals(&totals[at * F::TOTALS], of);
                for (int i = 0; i < TILE; ++i) {
                    scales[at + i] = F::scale(of, i);
                }
            }
            for (int64_t c = TILE * fours; c < width; ++c, ++at) {
                const auto & of = ((const typename F::column *) from[c])[b];
                F::totals(&totals[at * F::TOTALS], of);
                scales[at] = F::scale(of);
            }
        }
    }

    // As many rows from `row` on, whose weights begin with `x`.
    template <int ROWS> void multiply(const typename F::rows * x, int64_t row) const {
        typename F::template sums<ROWS> sums[MOST + TILE];
        for (int64_t b = 0; b < blocks; ++b) {
            const typename F::template weights<ROWS> weights(x + b, blocks);
            int64_t c = 0;
            for (; c < TILE * fours; c += TILE) {
                add<ROWS, true, TILE>(weights, b, c, sums);
            }
            for (; singles > 1 && c < width; c += TILE) {
                add<ROWS, false, TILE>(weights, b, c, sums);
            }
            if (singles == 1) {
                add<ROWS, false, 1>(weights, b, c, sums);
            }
        }
        for (int64_t c = 0; c < count; ++c) {
            lanes<ROWS>::store(out[c] + row, sums[c].all());
        }
    }

    // C columns from `c` on, a block of them.
    template <int ROWS, bool INTERLEAVED, int C>
    void add(const typename F::template weights<ROWS> & weights, int64_t b, int64_t c, typename F::template sums<ROWS> * sums) const {
        const int8_t * of[C];
        for (int i = 0; i < C; ++i) {
            of[i] = values[c + i] + b * (int64_t) (INTERLEAVED ? sizeof(typename F::columns) : sizeof(typename F::column));
        }
        F::template add<ROWS, INTERLEAVED, C>(sums + c, weights, of, &scales[b * width + c], &totals[(b * width + c) * F::TOTALS]);
    }

    void multiply(const typename F::rows * x, int64_t rows) const {
        int64_t    row  = 0;
        const auto next = [&] { return x + row / EIGHT * blocks; };
#if defined(FIRESIDE_SIXTEEN)
        for (; count > 1 && row + 2 * EIGHT <= rows; row += 2 * EIGHT) {
            multiply<2 * EIGHT>(next(), row);
        }
#endif
        for (; row < rows; row += EIGHT) {
            multiply<EIGHT>(next(), row);
        }
    }
};

} // namespace
} // namespace fireside
