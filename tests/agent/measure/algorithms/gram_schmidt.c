#include <math.h>
void gram_schmidt(int m, int n, double V[m][n], double Q[m][n], double R[n][n])
{
#pragma scop
    for (int c = 0; c < n; c++) {
        double length = 0.0;
        for (int r = 0; r < m; r++)
            length += V[r][c] * V[r][c];
        R[c][c] = sqrt(length);
        for (int r = 0; r < m; r++)
            Q[r][c] = V[r][c] / R[c][c];
        for (int d = c + 1; d < n; d++) {
            R[c][d] = 0.0;
            for (int r = 0; r < m; r++)
                R[c][d] += Q[r][c] * V[r][d];
            for (int r = 0; r < m; r++)
                V[r][d] -= Q[r][c] * R[c][d];
        }
    }
#pragma endscop
}
