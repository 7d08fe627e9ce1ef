// Vectors of eight or sixteen lanes, one for each row of weights: what repacked_matmul.h computes with.

#pragma once

#include <cstdint>
#include <immintrin.h>

#if (defined(__AVX512VNNI__) && defined(__AVX512VL__)) || defined(__AVXVNNI__)
#define FIRESIDE_VNNI // sums of four products, in 32 bits; else of two, in 16
#endif

namespace fireside {
namespace { // nothing is shared between variants for different processors

template <int ROWS> struct lanes;

template <> struct lanes<8> {
    using ints   = __m256i;
    using floats = __m256;

    static floats zero() { return _mm256_setzero_ps(); }
    static floats all(float x) { return _mm256_set1_ps(x); }
    static floats halves(const uint16_t * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }
    static floats multiply(floats x, floats y) { return _mm256_mul_ps(x, y); }
    static floats less(floats x, floats y) { return _mm256_sub_ps(x, y); }
    static floats fma(ints x, floats y, floats z) { return _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), y, z); }
    static void   store(float * at, floats x) { _mm256_storeu_ps(at, x); }

    static ints none() { return _mm256_setzero_si256(); }
    static ints all(int32_t x) { return _mm256_set1_epi32(x); }
    static ints add(ints x, ints y) { return _mm256_add_epi32(x, y); }
    static ints bytes(const uint8_t * at) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) at)); }
    static ints lower(ints x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
    static ints upper(ints x) { return lower(_mm256_srli_epi16(x, 4)); }
    static ints looked_up(const uint8_t * table, ints x) {
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) table)), x);
    }

    // 2^(x - 128): what ggml makes of the exponents of MXFP4.
    static floats half_of_two_to(ints x) {
        const ints normal = _mm256_slli_epi32(_mm256_sub_epi32(x, all(1)), 23), other = _mm256_sllv_epi32(all(1 << 21), x);
        return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, other, _mm256_cmpgt_epi32(all(2), x)));
    }

    // Sums of two products of 16 bits.
    static ints pairs(ints x, ints y) { return _mm256_madd_epi16(x, y); }

    // Adds products of bytes without a sign and with one.
    static ints dot(ints sums, ints x, ints y) {
#if !defined(FIRESIDE_VNNI)
        return _mm256_add_epi16(sums, _mm256_maddubs_epi16(x, y));
#elif defined(__AVX512VNNI__) && defined(__AVX512VL__)
        return _mm256_dpbusd_epi32(sums, x, y);
#else
        return _mm256_dpbusd_avx_epi32(sums, x, y);
#endif
    }

    // These sums, in 32 bits; and times numbers below 2^15.
#if defined(FIRESIDE_VNNI)
    static ints wide(ints sums) { return sums; }
    static ints wide(ints sums, ints factor) { return _mm256_mullo_epi32(sums, factor); }
#else
    static ints wide(ints sums) { return pairs(sums, _mm256_set1_epi16(1)); }
    static ints wide(ints sums, ints factor) { return pairs(sums, _mm256_or_si256(factor, _mm256_slli_epi32(factor, 16))); }
#endif

    // Of each row eight bytes → the first four, and the others. Eight rows lie together, the next eight `distance` bytes further.
    static void fours(const uint8_t * at, int64_t, ints & first, ints & others) {
        const __m256 x = _mm256_loadu_ps((const float *) at), y = _mm256_loadu_ps((const float *) (at + 32));
        first  = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0x88)), 0xd8);
        others = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(x, y, 0xdd)), 0xd8);
    }

    // Of each row two bytes, in 16 bits each.
    static ints two_bytes(const uint8_t * x, const uint8_t * y) {
        return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *) x), _mm_loadl_epi64((const __m128i *) y)));
    }
};

#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && (defined(__AVX512VNNI__) || !defined(FIRESIDE_VNNI))
#define FIRESIDE_SIXTEEN
template <> struct lanes<16> {
    using ints   = __m512i;
    using floats = __m512;

    static floats zero() { return _mm512_setzero_ps(); }
    static floats all(float x) { return _mm512_set1_ps(x); }
    static floats halves(const uint16_t * at) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) at)); }
    static floats multiply(floats x, floats y) { return _mm512_mul_ps(x, y); }
    static floats less(floats x, floats y) { return _mm512_sub_ps(x, y); }
    static floats fma(ints x, floats y, floats z) { return _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), y, z); }
    static void   store(float * at, floats x) { _mm512_storeu_ps(at, x); }

    static ints none() { return _mm512_setzero_si512(); }
    static ints all(int32_t x) { return _mm512_set1_epi32(x); }
    static ints add(ints x, ints y) { return _mm512_add_epi32(x, y); }
    static ints bytes(const uint8_t * at) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) at)); }
    static ints lower(ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
    static ints upper(ints x) { return lower(_mm512_srli_epi16(x, 4)); }
    static ints looked_up(const uint8_t * table, ints x) {
        return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) table)), x);
    }

    static floats half_of_two_to(ints x) {
        const ints normal = _mm512_slli_epi32(_mm512_sub_epi32(x, all(1)), 23);
        return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, _mm512_cmplt_epi32_mask(x, all(2)), all(1 << 21), x));
    }

    static ints pairs(ints x, ints y) { return _mm512_madd_epi16(x, y); }

#if defined(FIRESIDE_VNNI)
    static ints dot(ints sums, ints x, ints y) { return _mm512_dpbusd_epi32(sums, x, y); }
    static ints wide(ints sums) { return sums; }
    static ints wide(ints sums, ints factor) { return _mm512_mullo_epi32(sums, factor); }
#else
    static ints dot(ints sums, ints x, ints y) { return _mm512_add_epi16(sums, _mm512_maddubs_epi16(x, y)); }
    static ints wide(ints sums) { return pairs(sums, _mm512_set1_epi16(1)); }
    static ints wide(ints sums, ints factor) { return pairs(sums, _mm512_or_si512(factor, _mm512_slli_epi32(factor, 16))); }
#endif

    static void fours(const uint8_t * at, int64_t distance, ints & first, ints & others) {
        const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        const __m512i x = _mm512_loadu_si512(at), y = _mm512_loadu_si512(at + distance);
        first  = _mm512_permutex2var_epi32(x, even, y);
        others = _mm512_permutex2var_epi32(x, _mm512_add_epi32(even, _mm512_set1_epi32(1)), y);
    }

    static ints two_bytes(const uint8_t * x, const uint8_t * y) {
        const __m128i one = _mm_loadu_si128((const __m128i *) x), other = _mm_loadu_si128((const __m128i *) y);
        return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(one, other), _mm_unpacklo_epi8(one, other)));
    }
};
#endif

} // namespace
} // namespace fireside
