/* Matrix product C += A B: the inner loop of model-predictive control, of least-squares fits of
   spectra and of every dense layer of an inspection network. Bound by arithmetic once tiled. */
void gemm(int ni, int nj, int nk, float C[ni][nj], const float A[ni][nk], const float B[nk][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++)
        for (int j = 0; j < nj; j++)
            for (int k = 0; k < nk; k++)
                C[i][j] += A[i][k] * B[k][j];
#pragma endscop
}
