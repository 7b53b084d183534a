// What a program unloads: other code may come to the same addresses.
#include "exports.h"

#include "unwind.h"

EXPORT int dlclose(void *handle)
{
    unwind_forget();
    int ret = real()->dlclose(handle);
    unwind_forget(); // again: for what was learnt meanwhile of code that is gone now
    return ret;
}
