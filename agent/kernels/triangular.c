/* Lower-triangular product C += L B: whitening with a Cholesky factor. The inner loop grows with
   the row, so equal shares of rows are unequal shares of work. */
void triangular(int n, int m, double C[n][m], const double L[n][n], const double B[n][m])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            for (int k = 0; k <= i; k++)
                C[i][j] += L[i][k] * B[k][j];
#pragma endscop
}
