// Two things that llama.cpp asks of every token while it reads a vocabulary → the same answers, sooner.
//
// Each token's text is compared with some sixty names of special tokens, and its characters are taken back to bytes one by one
// (as in GPT-2's byte-level BPE). With a small model that is a sixth of the start. project.cmake has the compiler read this file
// before llama-vocab.cpp.

#pragma once

#include "unicode.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

// libstdc++'s compares the characters before the lengths. Where both fit, this one is taken: it is no template.
__attribute__((always_inline)) inline bool operator==(const std::string & text, const char * name) {
    const size_t length = strlen(name); // of a literal: known when compiled
    return text.size() == length && memcmp(text.data(), name, length) == 0;
}

namespace fireside {

// The byte that each character of one or two bytes of UTF-8 stands for; -1: none.
inline const std::array<int16_t, 0x800> & bytes() {
    static const auto table = [] {
        std::array<int16_t, 0x800> of;
        of.fill(-1);
        for (int byte = 0; byte < 256; ++byte) {
            const std::string utf8 = unicode_byte_to_utf8((uint8_t) byte);
            size_t            from = 0;
            of[unicode_cpt_from_utf8(utf8, from)] = (int16_t) byte;
        }
        return of;
    }();
    return table;
}

// Throws std::out_of_range for what stands for no byte.
inline uint8_t utf8_to_byte(const std::string & utf8) {
    const auto & table = bytes();
    const auto          at    = [&](size_t i) { return (uint8_t) utf8[i]; };
    int                 byte  = -1;
    if (utf8.size() == 1 && at(0) < 0x80) {
        byte = table[at(0)];
    } else if (utf8.size() == 2 && at(0) >= 0xc2 && at(0) < 0xe0 && (at(1) & 0xc0) == 0x80) {
        byte = table[(at(0) & 0x1f) << 6 | (at(1) & 0x3f)];
    }
    return byte < 0 ? unicode_utf8_to_byte(utf8) : (uint8_t) byte;
}

} // namespace fireside

#define unicode_utf8_to_byte fireside::utf8_to_byte
