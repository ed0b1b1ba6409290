// Compiled once per instruction set, with its compiler flags and -DPIXELWISE_ISA=NAME.
#include "loops.h"
