// Compiled once per instruction set, with its flags and -DPIXELWISE_ISA=its name.
#include "loops.h"
