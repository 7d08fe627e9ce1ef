// A file that one thread reads some hundred thousand small things from → read without a lock for each.
//
// ggml reads metadata an element at a time: a vocabulary and its merges are two calls for every word. project.cmake has the compiler
// read this file before gguf.cpp.

#pragma once

#ifdef __linux__

#include "asked.h"

#include <cstdio>

namespace fireside {

inline size_t read(void * to, size_t size, size_t count, FILE * file) {
    return asked() ? fread_unlocked(to, size, count, file) : fread(to, size, count, file);
}

} // namespace fireside

#define fread fireside::read

#endif
