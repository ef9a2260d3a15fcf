/* Sum of every row: total ion current of a mass spectrometer, energy per frame. A reduction along
   memory: latency of an addition against bandwidth. */
void row_sum(int ni, int nj, double s[ni], const double A[ni][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++) {
        s[i] = 0.0;
        for (int j = 0; j < nj; j++)
            s[i] += A[i][j];
    }
#pragma endscop
}
