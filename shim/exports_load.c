// What a program unloads: other code may come to the same addresses.
#include "exports.h"

#include "modules.h"
#include "unwind.h"

static void forget(void)
{
    unwind_forget();
    modules_forget();
}

EXPORT int dlclose(void *handle)
{
    forget();
    int ret = real()->dlclose(handle);
    forget(); // again: for what was learnt meanwhile of code that is gone now
    return ret;
}
