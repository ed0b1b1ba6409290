// Compiled once per instruction set, with its compiler flags and -DPIXELWISE_ISA=NAME.
#include "pooling_loops.h"
#include "soft_confusion_loops.h"
