// The products of a mixture's experts with the tokens that chose them, weights repacked and values finite, on x86-64 → ggml's results to
// the bit, sooner.
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

constexpr int64_t PIECES = 8; // for each thread, where there are enough rows

template <typename F> struct experts {
    const ggml_compute_params * params;
    ggml_tensor *               product;
    const ggml_tensor *         x = product->src[0], * y = product->src[1], * ids = product->src[2];
    const int64_t               n = x->ne[0], rows = x->ne[1], count = x->ne[2], tokens = y->ne[2], blocks = n / ggml_blck_size(F::VALUES);
    const int64_t               each = y->ne[1]; // columns of a token: one for all of its experts, or one for each
    const size_t                size = ggml_row_size(F::VALUES, n);
    // The work buffer, as large as ggml's code needs it: values, and for each expert how many places it has, and which.
    char * const    values = (char *) params->wdata;
    int64_t * const counts = (int64_t *) (values + GGML_PAD(size * each * tokens, sizeof(int64_t)));
    place * const   places = (place *) (counts + count);

    // Each thread converts a part of the columns.
    void quantise() const {
        for (int64_t c = params->ith; c < each * tokens; c += params->nth) {
            const char * column = (const char *) y->data + c / each * y->nb[2] + c % each * y->nb[1];
            ggml_get_type_traits_cpu(F::VALUES)->from_float((const float *) column, values + c * size, n);
        }
    }

    void sort() const {
        std::fill_n(counts, count, 0);
        for (int64_t token = 0; token < tokens; ++token) {
            for (int64_t chosen = 0; chosen < ids->ne[0]; ++chosen) {
                const int32_t expert = *(const int32_t *) ((const char *) ids->data + token * ids->nb[1] + chosen * ids->nb[0]);
                GGML_ASSERT(expert >= 0 && expert < count);
                places[expert * tokens + counts[expert]++] = { (int32_t) chosen, (int32_t) token };
            }
        }
    }

    // `single`: a kernel for one column.
    template <typename K> void multiply(K single) const {
        const int64_t used = count - std::count(counts, counts + count, 0);
        if (used == 0) {
            return;
        }
        const int64_t pieces = (PIECES * params->nth + used - 1) / used;
        const int64_t piece  = std::max<int64_t>(1, rows / (2 * EIGHT) / pieces) * 2 * EIGHT; // rows
        int64_t       at = 0, mine = params->ith;
        for (int64_t expert = 0; expert < count; ++expert) {
            for (int64_t row = 0; row < rows && counts[expert] > 0; row += piece) {
                if (at++ == mine) {
                    multiply(single, expert, row, std::min(rows, row + piece));
                    mine = ggml_threadpool_chunk_add(params->threadpool, 1);
                }
            }
        }
    }

    template <typename K> void multiply(K single, int64_t expert, int64_t row, int64_t end) const {
        const auto    weights = (const typename F::rows *) ((const char *) x->data + expert * x->nb[2] + row * x->nb[1]);
        const place * of      = places + expert * tokens;
        const auto    column  = [&](place at) { return (const typename F::column *) (values + (at.token * each + at.chosen % each) * size); };
        const auto    out     = [&](place at) {
            return (float *) ((char *) product->data + at.chosen * product->nb[1] + at.token * product->nb[2]) + row;
        };
        for (int64_t first = 0; first < counts[expert]; first += MOST) {
            const int64_t last = std::min<int64_t>(first + MOST, counts[expert]) - 1;
            if (first == last) {
                single((int) n, out(of[first]), 0, weights, column(of[first]), 1, (int) (end - row));
                continue;
            }
            group<F, false> some(blocks);
            for (int64_t i = first; i <= last; ++i) {
                some.push(column(of[i]), out(of[i]));
            }
            some.complete();
            some.multiply(weights, end - row);
        }
    }
};

// Each of the threads calls this.
template <typename F, typename K> bool multiply_experts(const ggml_compute_params * params, ggml_tensor * product, K single) {
    const experts<F> all{ params, product };
    all.quantise();
    if (params->ith == 0) {
        all.sort();
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);
    all.multiply(single);
    return true;
}

template <typename BLOCK> bool multiply_experts(const ggml_compute_params * params, ggml_tensor * product) {
    return multiply_experts<q4_32<BLOCK>>(params, product, column<q4_32<BLOCK>>);
}

} // namespace
} // namespace fireside

// Whether it computed `product`. With several memories, ggml gives each thread the same rows every time.
extern "C" bool fireside_multiply_experts(const ggml_compute_params * params, ggml_tensor * product) {
    const ggml_tensor * x = product->src[0], * y = product->src[1];
    if (!fireside::asked() || product->op != GGML_OP_MUL_MAT_ID || ggml_is_numa() || !x->extra || !x->buffer ||
        x->buffer->buft != ggml_backend_cpu_repack_buffer_type() || y->type != GGML_TYPE_F32 || y->nb[0] != sizeof(float)) {
        return false;
    }
    switch (x->type) {
        case GGML_TYPE_Q4_K: return fireside::multiply_experts<fireside::q4_K>(params, product, ggml_gemv_q4_K_8x8_q8_K);
        case GGML_TYPE_Q4_0: return fireside::multiply_experts<block_q4_0x8>(params, product);
        case GGML_TYPE_MXFP4: return fireside::multiply_experts<block_mxfp4x8>(params, product);
#if defined(FIRESIDE_VNNI)
        case GGML_TYPE_IQ4_NL: return fireside::multiply_experts<block_iq4_nlx8>(params, product);
#endif
        default: return false;
    }
}

#endif
