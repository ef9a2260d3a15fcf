/* Sum of every column, written by columns: line-scan profile of a web inspection. With a row
   length that is a power of two the walk falls into few cache sets. */
void column_sum(int ni, int nj, float s[nj], const float A[ni][nj])
{
#pragma scop
    for (int j = 0; j < nj; j++) {
        s[j] = 0.0f;
        for (int i = 0; i < ni; i++)
            s[j] += A[i][j];
    }
#pragma endscop
}
