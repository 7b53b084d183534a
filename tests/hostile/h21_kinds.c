// Hazard 21: every kind of socket, with the library and without: the same results.
#include "hostile.h"

int main(void)
{
    skip("not written yet");
}
