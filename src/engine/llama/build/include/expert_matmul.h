// The products of a mixture's experts with the tokens that chose them, weights repacked, on x86-64 → ggml's results to the bit, sooner.
//
// ggml goes through an expert's weights once for each of its tokens. Here all of them, up to 32, are computed together
// (repacked_matmul.h), and threads take parts of the experts as they get free. `products::products_of_experts_are_those_of_ggml`
// compares them.
//
// project.cmake has the compiler read this file before arch/x86/repack.cpp, and experts.h before traits.cpp, which calls it.

#pragma once

#include "repacked_matmul.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

namespace fireside {
namespace {

// One product: of a token with the expert that is its `chosen`-th.
struct place {
    int32_t chosen, token;
};

constexpr int64_t PIECES = 8; // for each thread, at least

template <typename F, typename K> // K: a kernel for a single column
void experts(const ggml_compute_params * params, ggml_tensor * product, K single) {
    const ggml_tensor * x = product->src[0], * y = product->src[1], * ids = product->src[2];
    const int64_t       n = x->ne[0], rows = x->ne[1], count = x->ne[2], tokens = y->ne[2], blocks = n / ggml_blck_size(F::VALUES);
    const int64_t       columns = y->ne[1] * tokens; // a token has one for all experts, or one for each
    // The work buffer, as large as ggml's code needs it: values, numbers of places, places.
    char *    values = (char *) params->wdata;
    const auto size  = ggml_row_size(F::VALUES, n);
    int64_t * counts = (int64_t *) (values + GGML_PAD(size * columns, sizeof(int64_t)));
    place *   places = (place *) (counts + count);
    for (int64_t c = params->ith; c < columns; c += params->nth) {
        const char * column = (const char *) y->data + c / y->ne[1] * y->nb[2] + c % y->ne[1] * y->nb[1];
        ggml_get_type_traits_cpu(F::VALUES)->from_float((const float *) column, values + c * size, n);
    }
    if (params->ith == 0) {
        std::fill_n(counts, count, 0);
        for (int64_t token = 0; token < tokens; ++token) {
            for (int64_t chosen = 0; chosen < ids->ne[0]; ++chosen) {
                const int32_t expert = *(const int32_t *) ((const char *) ids->data + token * ids->nb[1] + chosen * ids->nb[0]);
                GGML_ASSERT(expert >= 0 && expert < count);
                places[expert * tokens + counts[expert]++] = { (int32_t) chosen, (int32_t) token };
            }
        }
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    const int64_t chosen = count - std::count(counts, counts + count, 0);
    const int64_t pieces = (PIECES * params->nth + chosen - 1) / chosen;
    const int64_t piece  = std::max<int64_t>(1, rows / (2 * EIGHT) / pieces) * 2 * EIGHT; // rows
    int64_t       at = 0, mine = params->ith;
    for (int64_t expert = 0; expert < count; ++expert) {
        for (int64_t row = 0; row < rows && counts[expert] > 0; row += piece) {
            if (at++ != mine) {
                continue;
            }
            mine = ggml_threadpool_chunk_add(params->threadpool, 1);
            const int64_t      end     = std::min(rows, row + piece);
            const char *       weights = (const char *) x->data + expert * x->nb[2] + row * x->nb[1];
            const place *      tokens_of = places + expert * tokens;
            const auto         values_of = [&](place of) { return values + (of.token * y->ne[1] + of.chosen % y->ne[1]) * size; };
            const auto         out_of    = [&](place of) {
                return (float *) ((char *) product->data + of.chosen * product->nb[1] + of.token * product->nb[2]);
            };
            for (int64_t first = 0; first < counts[expert]; first += MOST) {
                const int64_t some = std::min<int64_t>(MOST, counts[expert] - first);
                if (some == 1) {
                    const place of = tokens_of[first];
                    single((int) n, out_of(of) + row, rows, weights, values_of(of), 1, (int) (end - row));
                    continue;
                }
                group<F, false> together(blocks);
                for (int64_t c = first; c < first + some; ++c) {
                    together.push((const typename F::column *) values_of(tokens_of[c]), out_of(tokens_of[c]) + row);
                }
                together.complete();
                together.multiply_all((const typename F::rows *) weights, 0, end - row);
            }
        }
    }
}

} // namespace
} // namespace fireside

// Whether it computed `product`. Each of the threads calls this.
extern "C" bool fireside_multiply_experts(const ggml_compute_params * params, ggml_tensor * product) {
    const ggml_tensor * x = product->src[0];
    if (!fireside::asked() || product->op != GGML_OP_MUL_MAT_ID || !x->buffer || ggml_is_numa() ||
        x->buffer->buft != ggml_backend_cpu_repack_buffer_type()) {
        return false;
    }
    switch (x->type) {
        case GGML_TYPE_Q4_K:
            fireside::experts<fireside::q4_K>(params, product, ggml_gemv_q4_K_8x8_q8_K);
            return true;
        case GGML_TYPE_Q4_0:
            fireside::experts<fireside::q4_32<block_q4_0x8>>(params, product, fireside::column<fireside::q4_32<block_q4_0x8>>);
            return true;
        case GGML_TYPE_MXFP4:
            fireside::experts<fireside::q4_32<block_mxfp4x8>>(params, product, fireside::column<fireside::q4_32<block_mxfp4x8>>);
            return true;
#if defined(FIRESIDE_VNNI)
        case GGML_TYPE_IQ4_NL:
            fireside::experts<fireside::q4_32<block_iq4_nlx8>>(params, product, fireside::column<fireside::q4_32<block_iq4_nlx8>>);
            return true;
#endif
        default:
            return false;
    }
}

#endif
