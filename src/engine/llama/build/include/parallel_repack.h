// A tensor whose weights are laid out anew for this processor (repacked), on one thread → the same in pieces, on several.
//
// Repacking takes most of the start of a large model. Rows lie one after another before and after, and formats interleave up to 16
// of them, so a group of rows can be treated as a tensor of its own. As many threads as OpenMP would take on this one
// (repack.rs says how many). project.cmake has the compiler read this file before repack.cpp.

#pragma once

#ifdef GGML_USE_OPENMP

#include "asked.h"
#include "ggml-backend-impl.h"

#include <algorithm>
#include <omp.h>

namespace fireside {

constexpr int64_t GROUP = 64; // rows: a multiple of what any format interleaves
constexpr int64_t PIECE = 1 << 20; // bytes: smaller ones cost more to hand out than they save
constexpr int THREADS = 8; // at most: more wait for memory

} // namespace fireside

static void fireside_repack(ggml_backend_buffer_t, ggml_tensor *, const void *, size_t, size_t); // llama.cpp's own

static void ggml_backend_cpu_repack_buffer_set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data,
                                                      size_t offset, size_t size) {
    const int64_t rows = ggml_nrows(tensor);
    const int64_t row = tensor->nb[1]; // bytes
    const int64_t piece = fireside::GROUP * std::max<int64_t>(1, fireside::PIECE / (fireside::GROUP * row));
    const int threads = std::min(omp_get_max_threads(), fireside::THREADS);
    if (!fireside::asked() || threads < 2 || offset != 0 || size != ggml_nbytes(tensor) || rows < 2 * piece) {
        return fireside_repack(buffer, tensor, data, offset, size);
    }
    #pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t first = 0; first < rows; first += piece) {
        ggml_tensor part = *tensor;
        part.ne[1] = std::min(piece, rows - first);
        part.ne[2] = part.ne[3] = 1;
        part.data = (char *) tensor->data + first * row;
        fireside_repack(buffer, &part, (const char *) data + first * row, 0, part.ne[1] * row);
    }
}

// With its arguments, the name stands only where llama.cpp defines the function; without, where it is put to use.
#define ggml_backend_cpu_repack_buffer_set_tensor(...) fireside_repack(__VA_ARGS__)

#endif
