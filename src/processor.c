/* The features that the program was compiled for → an error message and exit, if this processor lacks one.
 *
 * `target-cpu=native` builds for the compiling processor, and llama.cpp's C++ runs such code before `main`. This check runs
 * earlier and is compiled for any x86-64 (build.rs); Rust cannot set the target CPU for a single file.
 * Bits: Intel SDM, volume 2, CPUID; AMD's APM, volume 3, for lzcnt. NEEDED is rustc's list of features. */

#include <cpuid.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };
enum { NONE, YMM = 0x6, ZMM = 0xe6 }; /* bits of XCR0: registers that the system must save */

static const struct feature {
    char     name[16];
    unsigned leaf, subleaf, reg, bit, kept;
} features[] = {
    { "sse3", 1, 0, ECX, 0, NONE },
    { "pclmulqdq", 1, 0, ECX, 1, NONE },
    { "ssse3", 1, 0, ECX, 9, NONE },
    { "fma", 1, 0, ECX, 12, YMM },
    { "sse4.1", 1, 0, ECX, 19, NONE },
    { "sse4.2", 1, 0, ECX, 20, NONE },
    { "movbe", 1, 0, ECX, 22, NONE },
    { "popcnt", 1, 0, ECX, 23, NONE },
    { "aes", 1, 0, ECX, 25, NONE },
    { "avx", 1, 0, ECX, 28, YMM },
    { "f16c", 1, 0, ECX, 29, YMM },
    { "bmi1", 7, 0, EBX, 3, NONE },
    { "avx2", 7, 0, EBX, 5, YMM },
    { "bmi2", 7, 0, EBX, 8, NONE },
    { "avx512f", 7, 0, EBX, 16, ZMM },
    { "avx512dq", 7, 0, EBX, 17, ZMM },
    { "adx", 7, 0, EBX, 19, NONE },
    { "avx512ifma", 7, 0, EBX, 21, ZMM },
    { "avx512cd", 7, 0, EBX, 28, ZMM },
    { "sha", 7, 0, EBX, 29, NONE },
    { "avx512bw", 7, 0, EBX, 30, ZMM },
    { "avx512vl", 7, 0, EBX, 31, ZMM },
    { "avx512vbmi", 7, 0, ECX, 1, ZMM },
    { "avx512vbmi2", 7, 0, ECX, 6, ZMM },
    { "gfni", 7, 0, ECX, 8, NONE },
    { "vaes", 7, 0, ECX, 9, YMM },
    { "vpclmulqdq", 7, 0, ECX, 10, YMM },
    { "avx512vnni", 7, 0, ECX, 11, ZMM },
    { "avx512bitalg", 7, 0, ECX, 12, ZMM },
    { "avx512vpopcntdq", 7, 0, ECX, 14, ZMM },
    { "avx512fp16", 7, 0, EDX, 23, ZMM },
    { "avxvnni", 7, 1, EAX, 4, YMM },
    { "avx512bf16", 7, 1, EAX, 5, ZMM },
    { "avxifma", 7, 1, EAX, 23, YMM },
    { "avxvnniint8", 7, 1, EDX, 4, YMM },
    { "avxneconvert", 7, 1, EDX, 5, YMM },
    { "avxvnniint16", 7, 1, EDX, 10, YMM },
    { "lzcnt", 0x80000001, 0, ECX, 5, NONE },
};

/* A register of a CPUID leaf; 0 if there is no such leaf. */
static unsigned ask(unsigned leaf, unsigned subleaf, unsigned reg) {
    unsigned regs[4];
    if (!__get_cpuid_count(leaf, 0, &regs[EAX], &regs[EBX], &regs[ECX], &regs[EDX]) || (leaf == 7 && subleaf > regs[EAX])) {
        return 0;
    }
    __cpuid_count(leaf, subleaf, regs[EAX], regs[EBX], regs[ECX], regs[EDX]);
    return regs[reg];
}

static unsigned kept(void) {
    unsigned low = 0, high = 0;
    if (ask(1, 0, ECX) >> 27 & 1) { /* OSXSAVE: the system has enabled XGETBV */
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    }
    return low;
}

/* Whether `name` is in `list`, which is separated by commas. */
static int is_word(const char * name, const char * list) {
    for (;;) {
        const char * letter = name;
        for (; *letter && *letter == *list; ++letter, ++list) {
        }
        if (!*letter && (!*list || *list == ',')) {
            return 1;
        }
        for (; *list && *list != ','; ++list) {
        }
        if (!*list++) {
            return 0;
        }
    }
}

static void say(const char * text) {
    unsigned length = 0;
    for (; text[length]; ++length) {
    }
    if (write(STDERR_FILENO, text, length) < 0) {
        /* a failure cannot be reported anywhere */
    }
}

__attribute__((constructor(101))) static void check(void) {
    const unsigned registers = kept();
    int            missing   = 0;
    for (unsigned i = 0; i < sizeof features / sizeof *features; ++i) {
        const struct feature * one  = &features[i];
        const int              here = (ask(one->leaf, one->subleaf, one->reg) >> one->bit & 1) && (registers & one->kept) == one->kept;
        if (!here && is_word(one->name, NEEDED)) {
            say(missing++ ? ", " : "fireside: this program was built for another processor: this one lacks ");
            say(one->name);
        }
    }
    if (missing) {
        say("\nhint: build it on this machine: in the folder of its sources, make build\n");
        _exit(1);
    }
}
