/* Transposed product y += A' x, written by columns: the gradient of a least-squares fit. The walk
   down the columns shows what a long stride costs. */
void gemv_transposed(int ni, int nj, double y[nj], const double A[ni][nj], const double x[ni])
{
#pragma scop
    for (int j = 0; j < nj; j++)
        for (int i = 0; i < ni; i++)
            y[j] += A[i][j] * x[i];
#pragma endscop
}
