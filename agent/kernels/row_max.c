/* Maximum of every row: peak hold of a spectrum analyser. A reduction with fmaxf, which compilers
   treat unlike a sum. */
#include <math.h>

void row_max(int ni, int nj, float peak[ni], const float A[ni][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++) {
        peak[i] = A[i][0];
        for (int j = 1; j < nj; j++)
            peak[i] = fmaxf(peak[i], A[i][j]);
    }
#pragma endscop
}
