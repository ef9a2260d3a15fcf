/* Distances between all pairs of points: matching a scan with a model of the part. One square root
   per pair and little memory: the throughput of sqrt. */
#include <math.h>

void distances(int n, int m, double D[n][m], const double P[n][3], const double Q[m][3])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++)
            D[i][j] = sqrt((P[i][0] - Q[j][0]) * (P[i][0] - Q[j][0])
                           + (P[i][1] - Q[j][1]) * (P[i][1] - Q[j][1])
                           + (P[i][2] - Q[j][2]) * (P[i][2] - Q[j][2]));
#pragma endscop
}
