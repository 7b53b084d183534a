// Hazard 19: descriptors at the edges, and no memory to be had.
#include "hostile.h"

int main(void)
{
    skip("not written yet");
}
