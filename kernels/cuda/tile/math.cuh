// Functions of one number.
#pragma once
#include "tile/float.cuh"

DEVICE f32 sigmoid(f32 x) { return 1.0f / (1.0f + expf(-x)); }
