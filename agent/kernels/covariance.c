/* Covariance of n samples of m sensors: multivariate process monitoring (PCA, Hotelling's T2).
   Four statements, an imperfect nest and a triangle whose rows differ in length. */
void covariance(int n, int m, double data[n][m], double mean[m], double cov[m][m])
{
#pragma scop
    for (int j = 0; j < m; j++) {
        mean[j] = 0.0;
        for (int i = 0; i < n; i++)
            mean[j] += data[i][j] / n;
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            data[i][j] -= mean[j];
    for (int i = 0; i < m; i++)
        for (int j = i; j < m; j++)
            for (int k = 0; k < n; k++)
                cov[i][j] += data[k][i] * data[k][j] / (n - 1);
#pragma endscop
}
