// What every unit test needs.
#ifndef PRECLOSE_UNIT_H
#define PRECLOSE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>

// Under ThreadSanitizer a test with one thread is slow and finds nothing: it need not be thorough there.
#if defined __SANITIZE_THREAD__
#define UNDER_TSAN true
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN true
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN false
#endif

#endif
