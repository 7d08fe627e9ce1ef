// A large model file mapped into memory whole → mapped too, but each page comes in when it is first read.
//
// llama.cpp has the system enter all pages at once (MAP_POPULATE). Before the first weight is copied the process then holds the
// whole file, beside what is copied meanwhile: that is its peak memory. The file is still read ahead into the system's cache. For a
// small file entering all at once is sooner than page by page. project.cmake has the compiler read this file before llama-mmap.cpp.

#pragma once

#include <sys/mman.h>

#ifdef MAP_POPULATE

namespace fireside {

constexpr int POPULATE = MAP_POPULATE;
// As in pages.rs, which gives back the pages of such files.
constexpr unsigned long long LARGE = 512ull << 20;

} // namespace fireside

#undef MAP_POPULATE
#define MAP_POPULATE (size >= fireside::LARGE ? 0 : fireside::POPULATE) // where it is used, `size` is the file's

#endif
