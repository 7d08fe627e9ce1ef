// Products with weights that ggml has repacked: of a matrix with a batch's columns, and of a mixture's experts with those of the tokens
// that chose them; values finite, on x86-64 → ggml's results to the bit, sooner.
//
// All columns of a batch, up to some 32, cost one reading of the weights. ggml reads them again for each of the last three columns, and
// an expert's once for each of its tokens. The kernels are those of repacked_matmul.h; one column alone with Q4_K is left to ggml's.
// `products::products_of_repacked_weights_are_those_of_ggml` and `products::products_of_experts_are_those_of_ggml` compare them.
//
// project.cmake has the compiler read this file before traits.cpp, which asks first whether an operation is one of these.

#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(GGML_CPU_GENERIC)

#include "repacked_matmul.h"
#include "traits.h"

extern "C" bool fireside_stock_extra_compute_forward(ggml_compute_params *, ggml_tensor *); // llama.cpp's own

namespace fireside {
namespace {

constexpr int64_t PIECES = 8; // of the rows, for each thread, where there are enough

// One product of an expert: of a token of which it is the `chosen`-th.
struct place {
    int32_t chosen, token;
};

template <typename F> struct repacked {
    const ggml_compute_params * params;
    ggml_tensor *               product;
    const ggml_tensor *         x = product->src[0], * y = product->src[1], * ids = product->src[2];
    const int64_t               n = x->ne[0], rows = x->ne[1], experts = x->ne[2], tokens = y->ne[2], blocks = n / ggml_blck_size(F::VALUES);
    const int64_t               columns = y->ne[1]; // of a matrix; or of a token: one for all of its experts, or one for each
    const size_t                size    = ggml_row_size(F::VALUES, n);
    // The work buffer, as large as ggml's code needs it: values; for experts, how many places each has, and which.
    char * const    values = (char *) params->wdata;
    int64_t * const counts = (int64_t *) (values + GGML_PAD(size * columns * tokens, sizeof(int64_t)));
    place * const   places = (place *) (counts + experts);

    const float * numbers(int64_t column) const {
        return (const float *) ((const char *) y->data + column / columns * y->nb[2] + column % columns * y->nb[1]);
    }
    const typename F::rows * weights(int64_t expert, int64_t row) const {
        return (const typename F::rows *) ((const char *) x->data + expert * x->nb[2] + row * x->nb[1]);
    }

    // Each thread converts a part of the columns. `fours`: so many times four of them are interleaved.
    void quantise(int64_t fours) const {
        for (int64_t i = params->ith; i < fours; i += params->nth) {
            F::INTERLEAVE(numbers(TILE * i), values + TILE * i * size, n);
        }
        for (int64_t c = TILE * fours + params->ith; c < columns * tokens; c += params->nth) {
            ggml_get_type_traits_cpu(F::VALUES)->from_float(numbers(c), values + c * size, n);
        }
    }

    // Finds out which tokens chose each expert.
    void sort() const {
        GGML_ASSERT((char *) (places + experts * tokens) <= values + params->wsize);
        std::fill_n(counts, experts, 0);
        for (int32_t token = 0; token < tokens; ++token) {
            for (int32_t chosen = 0; chosen < ids->ne[0]; ++chosen) {
                const int32_t expert = *(const int32_t *) ((const char *) ids->data + token * ids->nb[1] + chosen * ids->nb[0]);
                GGML_ASSERT(expert >= 0 && expert < experts);
                places[expert * tokens + counts[expert]++] = { chosen, token };
            }
        }
    }

    // Threads go on together. Each has one piece to begin with.
    void meet() const {
        if (params->ith == 0) {
            ggml_threadpool_chunk_set(params->threadpool, params->nth);
        }
        ggml_barrier(params->threadpool);
    }

    // Calls `multiply` for this thread's pieces of the rows of matrices, of which those count that are `used`.
    template <typename U, typename M> void pieces(int64_t matrices, U used, M multiply) const {
        int64_t all = 0;
        for (int64_t matrix = 0; matrix < matrices; ++matrix) {
            all += used(matrix);
        }
        const int64_t parts = (PIECES * params->nth + all - 1) / std::max<int64_t>(all, 1);
        const int64_t piece = std::max<int64_t>(1, rows / parts / (2 * EIGHT)) * 2 * EIGHT; // rows
        int64_t       at = 0, mine = params->ith;
        for (int64_t matrix = 0; matrix < matrices; ++matrix) {
            for (int64_t row = 0; row < rows && used(matrix); row += piece) {
                if (at++ == mine) {
                    multiply(matrix, row, std::min(piece, rows - row));
                    mine = ggml_threadpool_chunk_add(params->threadpool, 1);
                }
            }
        }
    }

    // `single`: a kernel for one column.
    template <typename K> void multiply_matrix(K single) const {
        const int64_t fours = columns / TILE;
        GGML_ASSERT(size * columns <= params->wsize);
        quantise(fours);
        meet();
        const auto always = [](int64_t) { return true; };
        pieces(1, always, [&](int64_t, int64_t row, int64_t count) {
            const auto out    = [&](int64_t column) { return (float *) ((char *) product->data + column * product->nb[1]) + row; };
            const auto column = [&](int64_t of) { return values + of * size; };
            if (columns == 1) {
                return single((int) n, out(0), 0, weights(0, row), column(0), 1, (int) count);
            }
            for (int64_t first = 0; first == 0 || first < TILE * fours; first += MOST) {
                group<F>      some(blocks);
                const int64_t next = std::min(first + MOST, TILE * fours);
                for (int64_t c = first; c < next; c += TILE) {
                    some.push((const typename F::columns *) column(c), out(c), product->nb[1] / sizeof(float));
                }
                for (int64_t c = TILE * fours; next == TILE * fours && c < columns; ++c) {
                    some.push((const typename F::column *) column(c), out(c));
                }
                some.complete();
                some.multiply(weights(0, row), count);
            }
        });
    }

    template <typename K> void multiply_experts(K single) const {
        quantise(0);
        if (params->ith == 0) {
            sort();
        }
        meet();
        const auto used = [&](int64_t expert) { return counts[expert] > 0; };
        pieces(experts, used, [&](int64_t expert, int64_t row, int64_t count) {
            const place * of     = places + expert * tokens;
            const auto    column = [&](place at) { return values + (at.token * columns + at.chosen % columns) * size; };
            const auto    out    = [&](place at) {
                return (float *) ((char *) product->data + at.chosen * product->nb[1] + at.token * product->nb[2]) + row;
            };
            for (int64_t first = 0; first < counts[expert]; first += MOST) {
                const int64_t next = std::min<int64_t>(first + MOST, counts[expert]);
                if (next - first == 1) {
                    single((int) n, out(of[first]), 0, weights(expert, row), column(of[first]), 1, (int) count);
                    continue;
                }
                group<F> some(blocks);
                for (int64_t i = first; i < next; ++i) {
                    some.push((const typename F::column *) column(of[i]), out(of[i]));
                }
                some.complete();
                some.multiply(weights(expert, row), count);
            }
        });
    }
};

// A column alone.
template <typename F> void single_column(int n, float * out, size_t, const void * x, const void * y, int, int rows) {
    group<F> some(n / ggml_blck_size(F::VALUES));
    some.push((const typename F::column *) y, out);
    some.complete();
    some.multiply((const typename F::rows *) x, rows);
}

template <typename F, typename K> bool multiply(const ggml_compute_params * params, ggml_tensor * product, K single) {
    const repacked<F> all{ params, product };
    if (product->op == GGML_OP_MUL_MAT) {
        all.multiply_matrix(single);
    } else {
        all.multiply_experts(single);
    }
    return true;
}

template <typename BLOCK> bool multiply(const ggml_compute_params * params, ggml_tensor * product) {
    return multiply<q4_32<BLOCK>>(params, product, single_column<q4_32<BLOCK>>);
}

// Whether `op` is a product with a matrix, its columns in one plane, and one after the other where four are interleaved; or with experts. With
// several memories, ggml gives each thread the same rows every time.
inline bool known(const ggml_tensor * op) {
    const ggml_tensor * x = op->src[0], * y = op->src[1];
    if ((op->op != GGML_OP_MUL_MAT && op->op != GGML_OP_MUL_MAT_ID) || ggml_is_numa()) {
        return false;
    }
    const bool repacked = x->extra && x->buffer && x->buffer->buft == ggml_backend_cpu_repack_buffer_type();
    const bool numbers  = y->type == GGML_TYPE_F32 && y->nb[0] == sizeof(float) && op->nb[0] == sizeof(float);
    const bool plane    = x->ne[2] == 1 && y->ne[2] == 1 && (y->ne[1] < TILE || y->nb[1] == y->ne[0] * sizeof(float));
    return repacked && numbers && x->ne[3] == 1 && y->ne[3] == 1 && (plane || op->op == GGML_OP_MUL_MAT_ID);
}

// Whether it computed `op`.
inline bool compute(const ggml_compute_params * params, ggml_tensor * op) {
    if (!asked() || !known(op)) {
        return false;
    }
    switch (op->src[0]->type) {
        case GGML_TYPE_Q4_K: return multiply<q4_K>(params, op, ggml_gemv_q4_K_8x8_q8_K);
        case GGML_TYPE_Q4_0: return multiply<block_q4_0x8>(params, op);
        case GGML_TYPE_MXFP4: return multiply<block_mxfp4x8>(params, op);
#if defined(FIRESIDE_VNNI) // two products of its weights without a sign do not fit into 16 bits
        case GGML_TYPE_IQ4_NL: return multiply<block_iq4_nlx8>(params, op);
#endif
        default: return false;
    }
}

} // namespace
} // namespace fireside

// Each of the threads calls this.
extern "C" bool ggml_cpu_extra_compute_forward(ggml_compute_params * params, ggml_tensor * op) {
    return fireside::compute(params, op) || fireside_stock_extra_compute_forward(params, op);
}

#define ggml_cpu_extra_compute_forward fireside_stock_extra_compute_forward

#endif
