// A KV cache in main memory that is to be zero → zero when it is first read, and in large pages where it is large.
//
// llama.cpp writes zeros over the whole cache: with a small model that is a tenth of the start, and memory is taken before there are
// tokens to keep. Pages that are given back to the system come again as zeros. In large pages a cache is read faster (a tenth of
// the time of a token after 2,000), but most of it becomes resident at once, because each of its tensors, two per layer, begins to
// fill.
//
// project.cmake has the compiler read this file before llama-kv-cache.cpp.

#pragma once

#include "ggml-backend.h"

#ifdef __linux__

#include <cstdint>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace fireside {

constexpr size_t LARGE_CACHE = 32ull << 20; // bytes

inline void clear_cache(ggml_backend_buffer_t cache, uint8_t value) {
    const size_t size = ggml_backend_buffer_get_size(cache), page = (size_t) sysconf(_SC_PAGESIZE);
    if (value != 0 || size < page || ggml_backend_buffer_get_type(cache) != ggml_backend_cpu_buffer_type()) {
        return ggml_backend_buffer_clear(cache, value);
    }
    uint8_t * begin = (uint8_t *) ggml_backend_buffer_get_base(cache), * end = begin + size;
    uint8_t * first = (uint8_t *) (((uintptr_t) begin + page - 1) / page * page), * last = (uint8_t *) ((uintptr_t) end / page * page);
    if (size >= LARGE_CACHE) {
        madvise(first, last - first, MADV_HUGEPAGE); // where the system has them
    }
    if (first < last) {
        *first = last[-1] = 1;
        if (madvise(first, last - first, MADV_DONTNEED) != 0 || *first != 0 || last[-1] != 0) { // locked, or shared
            return ggml_backend_buffer_clear(cache, value);
        }
    }
    memset(begin, 0, first - begin);
    memset(last, 0, end - last);
}

} // namespace fireside

#define ggml_backend_buffer_clear fireside::clear_cache

#endif
