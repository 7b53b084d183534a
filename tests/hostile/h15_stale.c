// Hazard 15: numbers reused where no preload sees it.
#include "hostile.h"

int main(void)
{
    skip("not written yet");
}
