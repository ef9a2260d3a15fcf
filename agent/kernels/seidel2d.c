/* Gauss-Seidel relaxation in place: steady fields with little memory. Each value waits for its
   left and upper neighbours, so only the latency of an addition counts until it is skewed. */
void seidel2d(int steps, int n, double A[n][n])
{
#pragma scop
    for (int t = 0; t < steps; t++)
        for (int i = 1; i < n - 1; i++)
            for (int j = 1; j < n - 1; j++)
                A[i][j] = 0.2 * (A[i][j] + A[i][j - 1] + A[i][j + 1] + A[i - 1][j] + A[i + 1][j]);
#pragma endscop
}
