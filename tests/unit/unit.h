// What every unit test needs.
#ifndef PRECLOSE_UNIT_H
#define PRECLOSE_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <cmocka.h>

#endif
