/* Product of 8-bit matrices with 32-bit sums: a quantised network on a controller without a
   graphics card. */
#include <stdint.h>

void quantised(int ni, int nj, int nk, int32_t C[ni][nj], const uint8_t A[ni][nk],
               const uint8_t B[nj][nk])
{
#pragma scop
    for (int i = 0; i < ni; i++)
        for (int j = 0; j < nj; j++) {
            C[i][j] = 0;
            for (int k = 0; k < nk; k++)
                C[i][j] += A[i][k] * B[j][k];
        }
#pragma endscop
}
