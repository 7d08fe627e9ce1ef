// A matrix product with weights in Q4_1, or one column with weights in Q8_0, on x86-64 → ggml's results to the bit, sooner.
//
// ggml takes one row of weights times one column at a time: it unpacks every block of 32 weights again for each column, waits for
// the sum of the block before, and reads from memory without looking ahead. For most other formats it has kernels for several
// rows. Here four rows meet two or four columns: their sums do not wait for one another, weights are unpacked once, and what
// comes next is fetched beforehand. Each sum still adds up as in ggml_vec_dot_q4_1_q8_1 and ggml_vec_dot_q8_0_q8_0 (arch/x86/quants.c),
// block by block; `products::products_of_blocks_are_those_of_ggml` compares them.
//
// project.cmake has the compiler read this file before tiled.cpp, which is asked first to compute a product.

#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "asked.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "tiled/tiled.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <immintrin.h>

extern "C" bool fireside_stock_mul_mat_tiled(const ggml_compute_params *, ggml_tensor *); // llama.cpp's own

namespace fireside {

constexpr int     ROWS = 4;
constexpr int64_t QK = 32; // weights of a block
constexpr int64_t AHEAD = 8192; // bytes from what is being computed to what is being fetched
constexpr size_t  LINE = 64;    // bytes that are fetched at once

#if defined(__AVX512VL__)
constexpr int COLUMNS = 4;
#else
constexpr int COLUMNS = 2; // sixteen registers hold no more
#endif

// Two numbers of 16 bits, in the lower half.
inline __m128 two_halves(const uint8_t * at) {
    int32_t both;
    memcpy(&both, at, sizeof both);
    return _mm_cvtph_ps(_mm_cvtsi32_si128(both));
}

inline __m128 half(const uint8_t * at) {
    uint16_t one;
    memcpy(&one, at, sizeof one);
    return _mm_cvtph_ps(_mm_cvtsi32_si128(one));
}

inline __m256i bytes(const uint8_t * at) { return _mm256_loadu_si256((const __m256i *) at); }

// 32 weights of four bits: the lower ones of 16 bytes, then the upper ones.
inline __m256i nibbles(const uint8_t * at) {
    const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) at));
    const __m256i shifted = _mm256_srlv_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    return _mm256_and_si256(shifted, _mm256_set1_epi8(15));
}

// Sums of four products each, of numbers without a sign and with one.
inline __m256 products(__m256i x, __m256i y) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), x, y));
#elif defined(__AVXVNNI__)
    return _mm256_cvtepi32_ps(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), x, y));
#else
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1)));
#endif
}

// In the order of hsum_float_8.
inline float sum(__m256 of) {
    __m128 some = _mm_add_ps(_mm256_extractf128_ps(of, 1), _mm256_castps256_ps128(of));
    some = _mm_add_ps(some, _mm_movehl_ps(some, some));
    return _mm_cvtss_f32(_mm_add_ss(some, _mm_movehdup_ps(some)));
}

// What a block of a format holds; its values are those of the columns, as the format's vec_dot wants them.
struct q4_1 { // scale, minimum, 16 bytes; values in Q8_1: scale, their sum times the scale, 32 bytes
    static constexpr size_t WEIGHTS = 20, VALUES = 36, HEAD = 4; // bytes
    static constexpr bool   MINIMUM = true;

    static __m128 head(const uint8_t * block) { return two_halves(block); }
    static __m256i weights(const uint8_t * block) { return nibbles(block + HEAD); }
    static __m256 dot(__m256i weights, __m256i values) { return products(weights, values); }
};

struct q8_0 { // scale, 32 bytes; values the same
    static constexpr size_t WEIGHTS = 34, VALUES = 34, HEAD = 2;
    static constexpr bool   MINIMUM = false;

    static __m128 head(const uint8_t * block) { return half(block); }
    static __m256i weights(const uint8_t * block) { return bytes(block + HEAD); }
    static __m256 dot(__m256i weights, __m256i values) {
        return products(_mm256_sign_epi8(weights, weights), _mm256_sign_epi8(values, weights));
    }
};

// A matrix, or a part of it. While it is computed, as much is fetched from `next` on.
struct matrix {
    uint8_t * data;
    size_t    row; // bytes from one to the next
    uint8_t * next = nullptr;
};

// Four rows of weights times C columns; `blocks` make a row.
template <typename F, int C> void tile(matrix x, matrix y, int64_t blocks, matrix out) {
    __m256 sums[ROWS][C];
    __m128 minima[C]; // times the columns' sums, a number for each row
    for (int c = 0; c < C; ++c) {
        minima[c] = _mm_setzero_ps();
        for (int r = 0; r < ROWS; ++r) {
            sums[r][c] = _mm256_setzero_ps();
        }
    }
    for (int64_t b = 0; b < blocks; ++b) {
        for (size_t at = 0; at < ROWS * F::WEIGHTS; at += LINE) {
            _mm_prefetch((const char *) x.next + b * ROWS * F::WEIGHTS + at, _MM_HINT_T0); // rows lie one after another
        }
        __m256i weights[ROWS];
        __m256  scale[ROWS];
        __m128  head[ROWS];
        for (int r = 0; r < ROWS; ++r) {
            const uint8_t * block = x.data + r * x.row + b * F::WEIGHTS;
            head[r]    = F::head(block);
            scale[r]   = _mm256_broadcastss_ps(head[r]);
            weights[r] = F::weights(block);
        }
        const __m128 minimum = _mm_movehl_ps(_mm_unpacklo_ps(head[2], head[3]), _mm_unpacklo_ps(head[0], head[1]));
        for (int c = 0; c < C; ++c) {
            const uint8_t * block  = y.data + c * y.row + b * F::VALUES;
            const __m128    of     = F::head(block);
            const __m256    factor = _mm256_broadcastss_ps(of);
            const __m256i   values = bytes(block + F::HEAD);
            if (F::MINIMUM) {
                minima[c] = _mm_fmadd_ps(minimum, _mm_shuffle_ps(of, of, 0x55), minima[c]);
            }
            for (int r = 0; r < ROWS; ++r) {
                sums[r][c] = _mm256_fmadd_ps(_mm256_mul_ps(scale[r], factor), F::dot(weights[r], values), sums[r][c]);
            }
        }
    }
    for (int c = 0; c < C; ++c) {
        float minimum[ROWS];
        _mm_storeu_ps(minimum, minima[c]);
        for (int r = 0; r < ROWS; ++r) {
            ((float *) (out.data + c * out.row))[r] = F::MINIMUM ? sum(sums[r][c]) + minimum[r] : sum(sums[r][c]);
        }
    }
}

// Four rows of weights times all columns.
template <typename F> void rows(matrix x, matrix y, int64_t blocks, matrix out, int64_t columns) {
    int64_t    c    = 0;
    const auto from = [&c](matrix of) { return matrix{ of.data + c * of.row, of.row }; };
    for (; c + COLUMNS <= columns; c += COLUMNS) {
        tile<F, COLUMNS>(x, from(y), blocks, from(out));
    }
    for (; c + 2 <= columns; c += 2) {
        tile<F, 2>(x, from(y), blocks, from(out));
    }
    if (c < columns) {
        tile<F, 1>(x, from(y), blocks, from(out));
    }
}

// Whether `product` is one of these. Of Q8_0, tinyBLAS computes several columns.
inline bool known(const ggml_tensor * product) {
    const ggml_tensor * x = product->src[0], * y = product->src[1];
    const bool format = x->type == GGML_TYPE_Q4_1 || (x->type == GGML_TYPE_Q8_0 && y->ne[1] == 1);
    const bool flat   = x->ne[2] == 1 && x->ne[3] == 1 && y->ne[2] == 1 && y->ne[3] == 1;
    return format && flat && x->nb[0] == ggml_type_size(x->type) && y->type == GGML_TYPE_F32 && y->nb[0] == sizeof(float);
}

// Each of the threads that compute `product` calls this. The work buffer is as large as ggml_compute_forward_mul_mat needs.
inline void multiply(const ggml_compute_params * params, ggml_tensor * product) {
    const ggml_tensor *            x       = product->src[0], * y = product->src[1];
    const ggml_type_traits_cpu *   traits  = ggml_get_type_traits_cpu(x->type);
    const ggml_type                values  = traits->vec_dot_type;
    const int64_t                  blocks  = x->ne[0] / QK, thread = params->ith, threads = params->nth;
    const size_t                   block   = ggml_type_size(values);
    const matrix                   columns = { (uint8_t *) params->wdata, blocks * block };
    // A thread converts its part of every column.
    const int64_t first = thread * blocks / threads, end = (thread + 1) * blocks / threads;
    for (int64_t c = 0; c < y->ne[1]; ++c) {
        const float * column = (const float *) ((const char *) y->data + c * y->nb[1]);
        ggml_get_type_traits_cpu(values)->from_float(column + first * QK, columns.data + c * columns.row + first * block,
                                                     (end - first) * QK);
    }
    if (thread == 0) {
        ggml_threadpool_chunk_set(params->threadpool, (int) threads);
    }
    ggml_barrier(params->threadpool);
    // Rows go to whoever is free, in parts small enough that a slow thread delays no other. Each has its next part in advance.
    const int64_t count = x->ne[1], part = std::max<int64_t>(ROWS, count / (threads * 8) / ROWS * ROWS);
    const int64_t ahead = std::max<int64_t>(1, AHEAD / (ROWS * x->nb[1])) * ROWS; // rows
    for (int64_t at = thread * part, next; at < count; at = next) {
        next = ggml_threadpool_chunk_add(params->threadpool, 1) * part;
        const int64_t after = std::min(at + part, count);
        for (int64_t r = at; r < after; r += ROWS) {
            const int64_t later   = r + ahead < after ? r + ahead : next + r + ahead - after;
            const matrix  weights = { (uint8_t *) x->data + r * x->nb[1], x->nb[1], (uint8_t *) x->data + later * x->nb[1] };
            const matrix  out     = { (uint8_t *) product->data + r * sizeof(float), product->nb[1] };
            if (r + ROWS > after) { // the last ones
                for (int64_t i = 0; i < (after - r) * y->ne[1]; ++i) {
                    const int64_t row = i % (after - r), c = i / (after - r);
                    traits->vec_dot((int) x->ne[0], (float *) (out.data + c * out.row) + row, 0, weights.data + row * weights.row, 0,
                                    columns.data + c * columns.row, 0, 1);
                }
            } else if (x->type == GGML_TYPE_Q4_1) {
                rows<q4_1>(weights, columns, blocks, out, y->ne[1]);
            } else {
                tile<q8_0, 1>(weights, columns, blocks, out);
            }
        }
    }
}

} // namespace fireside

extern "C" bool ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * product) {
    if (!fireside::asked() || params->use_ref || !fireside::known(product)) {
        return fireside_stock_mul_mat_tiled(params, product);
    }
    fireside::multiply(params, product);
    return true;
}

#define ggml_compute_forward_mul_mat_tiled fireside_stock_mul_mat_tiled

#endif
