// std::regex as llama.cpp's unicode.cpp uses it → the same matches, in linear time and without recursion.
//
// libstdc++ matches by recursion, some 350 bytes of stack for every character of a match: a line of `=` is enough to end the
// process. project.cmake has the compiler read this file before unicode.cpp and nothing else; the macros at its end give that
// file the classes below in place of the standard ones.
//
// A pattern becomes a program for a backtracking machine (Thompson 1968; as in Cox, "Regular Expression Matching: the Virtual
// Machine Approach"), whose alternatives wait on a stack of its own, the preferred one first as ECMAScript says. Far from where
// a match began, every choice notes where it has failed (inside a look-ahead: where it has succeeded too), and is not tried
// there again: a program of n choices takes at most n steps a character. Only what llama.cpp's patterns are made of is known;
// anything else is refused with std::regex_error. The test `conformance::splitter` compares every pattern of llama.cpp.

#pragma once

#include <algorithm>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <regex>
#include <string>
#include <utility>
#include <vector>

namespace fireside {

// Characters that may stand at one place.
template <typename C> class char_set {
  public:
    void add(C first, C last) { ranges.push_back({ first, last }); }

    void add(const char_set & other) {
        if (other.negated) {
            throw std::regex_error(std::regex_constants::error_ctype); // such as [\S], which no pattern has
        }
        ranges.insert(ranges.end(), other.ranges.begin(), other.ranges.end());
    }

    char_set negative() const {
        char_set other(*this);
        other.negated = !negated;
        return other;
    }

    // To be called when all ranges are there.
    char_set & finish() {
        std::sort(ranges.begin(), ranges.end());
        std::vector<std::pair<C, C>> merged;
        for (const auto & range : ranges) {
            if (!merged.empty() && range.first <= merged.back().second) {
                merged.back().second = std::max(merged.back().second, range.second);
            } else {
                merged.push_back(range);
            }
        }
        ranges = merged;
        for (size_t c = 0; c < ascii.size(); ++c) {
            ascii[c] = find((C) c);
        }
        return *this;
    }

    bool has(C c) const { return c >= 0 && (size_t) c < ascii.size() ? ascii[(size_t) c] : find(c); }

  private:
    bool find(C c) const {
        const auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                            [](C one, const std::pair<C, C> & range) { return one < range.first; });
        return (after != ranges.begin() && c <= std::prev(after)->second) != negated;
    }

    std::vector<std::pair<C, C>> ranges;
    std::bitset<128>             ascii;
    bool                         negated = false;
};

enum class op : uint8_t {
    set,   // one character out of sets[index]
    split, // on at `to`, and if that fails at `otherwise`; it is choice number `index`
    jump,  // on at `to`
    look,  // what follows, up to its `match`, matches here (does not, if `negative`), then on at `to`
    end,   // the end of the text
    match,
};

// Where it goes on is counted from itself.
struct instruction {
    op       code;
    bool     negative  = false;
    uint32_t index     = 0;
    int32_t  to        = 0;
    int32_t  otherwise = 0;
};

// A pattern as a program. C is char or wchar_t.
template <typename C> class linear_regex {
  public:
    linear_regex(const std::basic_string<C> & pattern, std::regex_constants::syntax_option_type) : pattern(pattern) {
        code = disjunction().code;
        if (at != pattern.size()) {
            refuse(std::regex_constants::error_paren);
        }
        code.push_back({ op::match });
        for (auto & step : code) {
            if (step.code == op::split) {
                step.index = choices++;
            }
        }
    }

    std::vector<instruction> code;
    std::vector<char_set<C>> sets;
    uint32_t                 choices = 0;

  private:
    struct part {
        std::vector<instruction> code;
        bool                     nullable = true; // may match no character at all
    };

    [[noreturn]] static void refuse(std::regex_constants::error_type why) { throw std::regex_error(why); }

    bool more() const { return at < pattern.size(); }

    bool take(char c) {
        const bool taken = more() && pattern[at] == (C) c;
        at += taken;
        return taken;
    }

    C next() {
        if (!more()) {
            refuse(std::regex_constants::error_escape);
        }
        return pattern[at++];
    }

    static void append(std::vector<instruction> & to, const std::vector<instruction> & code) {
        to.insert(to.end(), code.begin(), code.end());
    }

    static int32_t length(const part & of) { return (int32_t) of.code.size(); }

    static instruction split(int32_t to, int32_t otherwise) { return { op::split, false, 0, to, otherwise }; }

    static instruction jump(int32_t to) { return { op::jump, false, 0, to }; }

    part disjunction() {
        part left = alternative();
        while (take('|')) {
            const part right = alternative();
            part       both;
            both.nullable = left.nullable || right.nullable;
            both.code.push_back(split(1, length(left) + 2));
            append(both.code, left.code);
            both.code.push_back(jump(length(right) + 1));
            append(both.code, right.code);
            left = std::move(both);
        }
        return left;
    }

    part alternative() {
        part all;
        while (more() && pattern[at] != '|' && pattern[at] != ')') {
            const part one = quantified(atom());
            append(all.code, one.code);
            all.nullable = all.nullable && one.nullable;
        }
        return all;
    }

    part quantified(const part & one) {
        if (take('*')) {
            return repeated(one, 0, -1);
        }
        if (take('+')) {
            return repeated(one, 1, -1);
        }
        if (take('?')) {
            return repeated(one, 0, 1);
        }
        if (!take('{')) {
            return one;
        }
        const int least = number();
        int       most  = least;
        if (take(',')) {
            most = more() && pattern[at] == '}' ? -1 : number();
        }
        if (!take('}') || (most >= 0 && most < least)) {
            refuse(std::regex_constants::error_brace);
        }
        return repeated(one, least, most);
    }

    int number() {
        int n = 0, digits = 0;
        for (; more() && pattern[at] >= '0' && pattern[at] <= '9' && digits < 4; ++digits) {
            n = 10 * n + (int) (pattern[at++] - '0');
        }
        if (digits == 0) {
            refuse(std::regex_constants::error_badbrace);
        }
        return n;
    }

    // `most` < 0: without end.
    part repeated(const part & one, int least, int most) {
        if (more() && (pattern[at] == '?' || pattern[at] == '+' || pattern[at] == '*')) {
            refuse(std::regex_constants::error_badrepeat); // not greedy, or possessive
        }
        part tail;
        if (most < 0) {
            if (one.nullable) {
                refuse(std::regex_constants::error_badrepeat); // would go round without getting on
            }
            tail.code.push_back(split(1, length(one) + 2));
            append(tail.code, one.code);
            tail.code.push_back(jump(-length(one) - 1));
        }
        for (int i = least; i < most; ++i) {
            part more_of;
            more_of.code.push_back(split(1, length(one) + length(tail) + 1));
            append(more_of.code, one.code);
            append(more_of.code, tail.code);
            tail = std::move(more_of);
        }
        part all;
        for (int i = 0; i < least; ++i) {
            append(all.code, one.code);
        }
        append(all.code, tail.code);
        all.nullable = least == 0 || one.nullable;
        return all;
    }

    part atom() {
        part one;
        if (take('$')) {
            one.code.push_back({ op::end });
            return one;
        }
        if (take('(')) {
            const bool marked = take('?');
            const C    kind   = marked ? next() : (C) ':';
            one               = disjunction();
            if (!take(')')) {
                refuse(std::regex_constants::error_paren);
            }
            if (kind == '=' || kind == '!') {
                one.code.push_back({ op::match });
                one.code.insert(one.code.begin(), { op::look, kind == '!', 0, length(one) + 1 });
                one.nullable = true;
            } else if (kind != ':') {
                refuse(std::regex_constants::error_paren);
            }
            return one;
        }
        char_set<C> set;
        if (take('[')) {
            set = bracket();
        } else if (take('\\')) {
            set = escaped();
        } else {
            const C c = next();
            if (c == '.' || c == '^' || c == '*' || c == '+' || c == '?' || c == '{' || c == '}' || c == ']') {
                refuse(std::regex_constants::error_badrepeat);
            }
            set.add(c, c);
        }
        one.code.push_back({ op::set, false, (uint32_t) sets.size() });
        one.nullable = false;
        sets.push_back(set.finish());
        return one;
    }

    // After a backslash.
    char_set<C> escaped() {
        const C     c = next();
        char_set<C> set;
        switch (c) {
            case 's':
            case 'S':
                set.add('\t', '\r');
                set.add(' ', ' ');
                break;
            case 'd':
            case 'D':
                set.add('0', '9');
                break;
            default:
                {
                    const C one = control(c);
                    set.add(one, one);
                }
        }
        return c == 'S' || c == 'D' ? set.negative() : set;
    }

    static C control(C c) {
        switch (c) {
            case 'n': return '\n';
            case 'r': return '\r';
            case 't': return '\t';
            case 'f': return '\f';
            case 'v': return '\v';
            default: break;
        }
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
            refuse(std::regex_constants::error_escape);
        }
        return c;
    }

    // After [.
    char_set<C> bracket() {
        char_set<C> set;
        const bool  negated = take('^');
        while (!take(']')) {
            C first = next();
            if (first == '[' && more() && (pattern[at] == ':' || pattern[at] == '.' || pattern[at] == '=')) {
                refuse(std::regex_constants::error_ctype);
            }
            if (first == '\\') {
                if (more() && std::basic_string<C>({ 's', 'S', 'd', 'D' }).find(pattern[at]) != std::basic_string<C>::npos) {
                    set.add(escaped());
                    continue;
                }
                first = control(next());
            }
            C last = first;
            if (at + 1 < pattern.size() && pattern[at] == '-' && pattern[at + 1] != ']') {
                ++at;
                last = next();
                if (last == '\\') {
                    last = control(next());
                }
                if (last < first) {
                    refuse(std::regex_constants::error_range);
                }
            }
            set.add(first, last);
        }
        return negated ? set.negative() : set;
    }

    std::basic_string<C> pattern;
    size_t               at = 0;
};

// Where the choices of a program have failed in a text, and succeeded.
class memory {
  public:
    enum verdict : uint8_t { unknown, failed, succeeded };

    memory(uint32_t choices, size_t length) : choices(choices), blocks(length / SPAN + 1) {}

    verdict get(uint32_t choice, size_t at) const {
        const auto & block = blocks[at / SPAN];
        return block ? (verdict) block[index(choice, at)] : unknown;
    }

    void set(uint32_t choice, size_t at, verdict verdict) {
        auto & block = blocks[at / SPAN];
        if (!block) {
            block.reset(new uint8_t[(size_t) choices * SPAN]());
        }
        block[index(choice, at)] = verdict;
    }

  private:
    static constexpr size_t SPAN = 1024; // characters of a block, of which most texts need none

    static size_t index(uint32_t choice, size_t at) { return choice * SPAN + at % SPAN; }

    uint32_t                                choices;
    std::vector<std::unique_ptr<uint8_t[]>> blocks;
};

// A match: where it begins, from the beginning of the text, and how long it is.
template <typename Iterator> struct linear_match {
    ptrdiff_t position() const { return (ptrdiff_t) from; }
    ptrdiff_t length() const { return (ptrdiff_t) (to - from); }

    size_t from = 0, to = 0;
};

// All matches in a text, one after the other, as std::regex_iterator finds them.
template <typename Iterator> class linear_iterator {
  public:
    using char_type = typename std::iterator_traits<Iterator>::value_type;

    linear_iterator() = default;

    linear_iterator(Iterator begin, Iterator end, const linear_regex<char_type> & regex) :
        text(begin), length((size_t) (end - begin)), regex(&regex), known(regex.choices, length) {
        search(0);
    }

    bool operator!=(const linear_iterator & other) const { return over != other.over; }

    const linear_match<Iterator> & operator*() const { return match; }

    linear_iterator & operator++() {
        const size_t at = match.to;
        if (match.from < at) {
            search(at);
        } else if (at == length) {
            over = true;
        } else if (run(0, at, at, false)) {
            match.from = at;
        } else {
            search(at + 1);
        }
        return *this;
    }

  private:
    // Of characters from the beginning of a match on, these are tried again each time: most matches are shorter.
    static constexpr size_t NEAR = 64;
    static constexpr size_t ANY  = SIZE_MAX;

    // An alternative that was not tried yet; or, if all above it have failed, what is to be noted as failed.
    struct waiting {
        uint32_t pc;
        bool     note;
        size_t   at;
    };

    void search(size_t from) {
        for (over = false; from <= length; ++from) {
            if (run(0, from, ANY, false)) {
                match.from = from;
                return;
            }
        }
        over = true;
    }

    // Runs the program from one of its instructions on. A match must not end at `forbidden`.
    bool run(uint32_t pc, size_t at, size_t forbidden, bool looking) {
        const size_t base = stack.size(), from = at;
        for (;;) {
            const instruction & step = regex->code[pc];
            bool                on   = true;
            switch (step.code) {
                case op::set:
                    on = at < length && regex->sets[step.index].has(text[at]);
                    ++at;
                    ++pc;
                    break;
                case op::jump:
                    pc += step.to;
                    break;
                case op::end:
                    on = at == length;
                    ++pc;
                    break;
                case op::look:
                    on = run(pc + 1, at, ANY, true) != step.negative;
                    pc += step.to;
                    break;
                case op::split:
                    if (at - from >= NEAR && forbidden == ANY) {
                        switch (known.get(step.index, at)) {
                            case memory::succeeded: return succeed(base, at, looking);
                            case memory::failed: on = false; break;
                            case memory::unknown: stack.push_back({ pc, true, at });
                        }
                    }
                    if (on) {
                        stack.push_back({ pc + step.otherwise, false, at });
                        pc += step.to;
                    }
                    break;
                case op::match:
                    if (at != forbidden) {
                        return succeed(base, at, looking);
                    }
                    on = false;
            }
            while (!on) {
                if (stack.size() == base) {
                    return false;
                }
                const waiting last = stack.back();
                stack.pop_back();
                if (last.note) {
                    known.set(regex->code[last.pc].index, last.at, memory::failed);
                } else {
                    pc = last.pc;
                    at = last.at;
                    on = true;
                }
            }
        }
    }

    // What a look-ahead has found it need not find again; a match is needed with its end.
    bool succeed(size_t base, size_t at, bool looking) {
        for (size_t i = base; looking && i < stack.size(); ++i) {
            if (stack[i].note) {
                known.set(regex->code[stack[i].pc].index, stack[i].at, memory::succeeded);
            }
        }
        stack.resize(base);
        if (!looking) {
            match.to = at;
        }
        return true;
    }

    Iterator                        text{};
    size_t                          length = 0;
    const linear_regex<char_type> * regex  = nullptr;
    memory                          known{ 0, 0 };
    std::vector<waiting>            stack;
    linear_match<Iterator>          match;
    bool                            over = true;
};

} // namespace fireside

namespace std {
using fireside::linear_iterator;
using fireside::linear_match;
using fireside::linear_regex;
} // namespace std

#define basic_regex linear_regex
#define regex_iterator linear_iterator
#define match_results linear_match
