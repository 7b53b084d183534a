// Hazard 27: the library's own watcher thread.
#include "hostile.h"

int main(void)
{
    skip("not in this version");
}
