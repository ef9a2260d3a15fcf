/* Many small matrix products: one Kalman filter per axis or per tracked part. Short loops, so the
   overhead of a loop weighs as much as its arithmetic. */
void batched_matmul(int batch, int n, double C[batch][n][n], const double A[batch][n][n],
                    const double B[batch][n][n])
{
#pragma scop
    for (int b = 0; b < batch; b++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                C[b][i][j] = 0.0;
                for (int k = 0; k < n; k++)
                    C[b][i][j] += A[b][i][k] * B[b][k][j];
            }
#pragma endscop
}
