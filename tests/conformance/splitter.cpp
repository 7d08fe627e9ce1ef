// Patterns and texts → the pieces that llama.cpp's pre-tokeniser makes of them. For each case on standard input the number of
// patterns, the patterns and a text, each with its length in bytes before it; a line of output a case.

#include "unicode.h"

#include <cstdint>
#include <iostream>

static std::string read_string() {
    size_t length = 0;
    std::cin >> length;
    std::cin.get();
    std::string text(length, 0);
    std::cin.read(&text[0], (std::streamsize) length);
    return text;
}

int main() {
    for (size_t count; std::cin >> count;) {
        std::vector<std::string> patterns(count);
        for (auto & pattern : patterns) {
            pattern = read_string();
        }
        uint64_t hash   = 14695981039346656037u; // FNV-1a, of the pieces' lengths
        size_t   pieces = 0;
        for (const auto & piece : unicode_regex_split(read_string(), patterns, false)) {
            hash = (hash ^ piece.size()) * 1099511628211u;
            ++pieces;
        }
        std::cout << pieces << ' ' << hash << std::endl;
    }
}
