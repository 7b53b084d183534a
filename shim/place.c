#include "place.h"

static const char *const names[] = {
#define CALL(id, name) name,
#include "calls.def"
#undef CALL
};

const char *call_name(enum call call)
{
    return names[call];
}
