// timeout: 120
// env: PRECLOSE_STACK=32 LD_BIND_NOW=1
// The same with every stack walked (PRECLOSE_STACK).
#include "h12_faults.c"
