/* alternating directions: two tridiagonal sweeps a step, Thomas' algorithm */
void adi(int steps, int n, double side, double middle, double u[n][n], double w[n][n],
         double c[n][n], double d[n][n])
{
#pragma scop
    for (int t = 0; t < steps; t++) {
        for (int i = 1; i < n - 1; i++) {
            w[0][i] = 1.0;
            c[i][0] = 0.0;
            d[i][0] = w[0][i];
            for (int j = 1; j < n - 1; j++) {
                c[i][j] = side / (middle - side * c[i][j - 1]);
                d[i][j] = (side * u[j][i - 1] + (middle - 2.0 * side) * u[j][i] + side * u[j][i + 1]
                           + side * d[i][j - 1]) / (middle - side * c[i][j - 1]);
            }
            w[n - 1][i] = 1.0;
            for (int j = 1; j < n - 1; j++)
                w[n - 1 - j][i] = c[i][n - 1 - j] * w[n - j][i] + d[i][n - 1 - j];
        }
        for (int i = 1; i < n - 1; i++) {
            u[i][0] = 1.0;
            c[i][0] = 0.0;
            d[i][0] = u[i][0];
            for (int j = 1; j < n - 1; j++) {
                c[i][j] = side / (middle - side * c[i][j - 1]);
                d[i][j] = (side * w[i - 1][j] + (middle - 2.0 * side) * w[i][j] + side * w[i + 1][j]
                           + side * d[i][j - 1]) / (middle - side * c[i][j - 1]);
            }
            u[i][n - 1] = 1.0;
            for (int j = 1; j < n - 1; j++)
                u[i][n - 1 - j] = c[i][n - 1 - j] * u[i][n - j] + d[i][n - 1 - j];
        }
    }
#pragma endscop
}
