#include "touched.h"

struct touched touched;
