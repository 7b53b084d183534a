// timeout: 60
// env: PRECLOSE_STACK=32 LD_BIND_NOW=1
// The same with every stack walked (PRECLOSE_STACK).
#include "h09_every_instruction.c"
