/* Rows scaled to mean 0 and length 1: standardising spectra before they are compared. Two
   reductions, a square root and a division per row. */
#include <math.h>

void normalise(int ni, int nj, double B[ni][nj], const double A[ni][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++) {
        double mean = 0.0;
        double square = 1e-9;
        for (int j = 0; j < nj; j++)
            mean += A[i][j];
        mean = mean / nj;
        for (int j = 0; j < nj; j++)
            square += (A[i][j] - mean) * (A[i][j] - mean);
        for (int j = 0; j < nj; j++)
            B[i][j] = (A[i][j] - mean) / sqrt(square);
    }
#pragma endscop
}
