/* Transposition: turning scan lines into columns between two stages of a pipeline. No arithmetic;
   one side is always walked across, which shows caches, TLB and tiling. */
void transpose(int ni, int nj, double B[nj][ni], const double A[ni][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++)
        for (int j = 0; j < nj; j++)
            B[j][i] = A[i][j];
#pragma endscop
}
