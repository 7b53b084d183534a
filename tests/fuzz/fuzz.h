// What every fuzzer uses: the input, byte by byte, and a way to say what is wrong.
#ifndef FUZZ_H
#define FUZZ_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELPER __attribute__((unused)) static

// What is left of the input. An input that has ended goes on with zeroes.
struct input {
    const uint8_t *at;
    size_t left;
};

HELPER uint8_t take(struct input *in)
{
    if (!in->left) return 0;
    in->left--;
    return *in->at++;
}

HELPER unsigned take_below(struct input *in, unsigned n)
{
    return take(in) % n;
}

HELPER uint64_t take_number(struct input *in, unsigned bytes)
{
    uint64_t n = 0;
    while (bytes--) n = n << 8 | take(in);
    return n;
}

// A number as they occur: mostly small, sometimes at an end of its range.
HELPER int64_t take_count(struct input *in)
{
    static const int64_t odd[] = {-1, 0, 1, 2, INT32_MAX, UINT32_MAX, INT64_MAX, INT64_MIN};
    unsigned how = take_below(in, 4);
    if (how == 0) return odd[take_below(in, sizeof odd / sizeof *odd)];
    return (int64_t)take_number(in, how == 1 ? 1 : how == 2 ? 3 : 8);
}

HELPER size_t take_bytes(struct input *in, void *to, size_t n)
{
    if (n > in->left) n = in->left;
    memcpy(to, in->at, n);
    in->at += n;
    in->left -= n;
    return n;
}

// The library is wrong: the fuzzer keeps the input.
__attribute__((format(printf, 1, 2), noreturn, unused)) static void wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("wrong: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
