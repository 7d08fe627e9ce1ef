// A model file mapped into memory whole → mapped too, but each page comes in when it is first read.
//
// llama.cpp has the system enter all pages at once (MAP_POPULATE). Before the first weight is copied the process then holds the
// whole file, beside what is copied meanwhile: that is its peak memory, and it waits for pages that it never reads (all rows of the
// embeddings). The file is still read ahead into the system's cache. project.cmake has the compiler read this file before
// llama-mmap.cpp.

#pragma once

#include <sys/mman.h>

#ifdef MAP_POPULATE
#undef MAP_POPULATE
#define MAP_POPULATE 0
#endif
