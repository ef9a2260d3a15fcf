/* One explicit step of heat conduction in a solid: curing ovens, additive manufacturing. Planes
   far apart in memory are read together. */
void heat3d(int n, float B[n][n][n], const float A[n][n][n])
{
#pragma scop
    for (int i = 1; i < n - 1; i++)
        for (int j = 1; j < n - 1; j++)
            for (int k = 1; k < n - 1; k++)
                B[i][j][k] = A[i][j][k]
                    + 0.125f * (A[i + 1][j][k] - 2.0f * A[i][j][k] + A[i - 1][j][k])
                    + 0.125f * (A[i][j + 1][k] - 2.0f * A[i][j][k] + A[i][j - 1][k])
                    + 0.125f * (A[i][j][k + 1] - 2.0f * A[i][j][k] + A[i][j][k - 1]);
#pragma endscop
}
