// GGML_FIRESIDE in the environment, which log.rs sets → whether ggml is to do as the headers here have it. llama.cpp's own tools
// over the same ggml stay as they come: they are what answers and speed are compared with.

#pragma once

#include <cstdlib>

namespace fireside {

static inline bool asked() {
    static const bool yes = std::getenv("GGML_FIRESIDE") != nullptr;
    return yes;
}

} // namespace fireside
