// A file that one thread reads some hundred thousand small things from → read without a lock for each.
//
// ggml reads metadata an element at a time: a vocabulary and its merges are two calls for every word. project.cmake has the compiler
// read this file before gguf.cpp.

#pragma once

#include <cstdio>

#ifdef __linux__
#define fread fread_unlocked
#endif
