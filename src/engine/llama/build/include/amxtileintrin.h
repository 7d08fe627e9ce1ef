/* The compiler's <amxtileintrin.h> → the same, with a _tile_loadconfig that reads all 64 bytes.
 *
 * gcc's version tells the optimiser that ldtilecfg reads 8 bytes of the configuration, so the stores to the other 56 are
 * dropped as dead, and the first tile instruction of llama.cpp ends in a general protection fault. clang's is right.
 * Format of the 64 bytes: Intel SDM, volume 2, LDTILECFG. Upstream: ggml-org/llama.cpp#26954. */

#include_next <amxtileintrin.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%0" : : "m"(*(const char(*)[64])(config)))
#endif
