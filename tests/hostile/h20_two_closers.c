// Hazard 20: two threads close one descriptor while others open.
#include "hostile.h"

int main(void)
{
    skip("not written yet");
}
