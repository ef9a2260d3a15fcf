/* Matrix-vector product y += A x: state observers, linear calibration models. Every element of A
   is used once, so it runs at the speed of the cache level that holds A. */
void gemv(int ni, int nj, float y[ni], const float A[ni][nj], const float x[nj])
{
#pragma scop
    for (int i = 0; i < ni; i++)
        for (int j = 0; j < nj; j++)
            y[i] += A[i][j] * x[j];
#pragma endscop
}
