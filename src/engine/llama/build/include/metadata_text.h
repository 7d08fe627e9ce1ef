// A key of a model file's metadata → its value as text for llama.cpp's log, arrays only as "[...]".
//
// llama.cpp's loader turns every array into text, the whole vocabulary and its merges, to print 37 characters of each: a tenth
// of the start with a small model. project.cmake has the compiler read this file before llama-model-loader.cpp.

#pragma once

#include "llama-impl.h"

#include "gguf.h"

namespace fireside {

inline std::string metadata_text(const gguf_context * metadata, int key) {
    return gguf_get_kv_type(metadata, key) == GGUF_TYPE_ARRAY ? "[...]" : gguf_kv_to_str(metadata, key);
}

} // namespace fireside

#define gguf_kv_to_str fireside::metadata_text
