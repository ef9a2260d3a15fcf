/* Position from two 32-bit encoder counts with a fixed-point blend: motion control. Integer
   multiplications, shifts and no floating point at all. */
#include <stdint.h>

void encoder_counts(int n, int32_t position[n], const int32_t coarse[n], const int32_t fine[n])
{
#pragma scop
    for (int i = 0; i < n; i++)
        position[i] = ((coarse[i] & 1023) * 113 + (fine[i] & 1023) * 15 + (fine[i] >> 4)) >> 7;
#pragma endscop
}
