/* Tensor contraction T[a][b][c][d] += X[a][e][c] U[e][b][d]: quantum chemistry in the lab, tensor
   regression of batch processes. Five loops, every array walked differently. */
void contraction(int na, int nb, int nc, int nd, int ne, float T[na][nb][nc][nd],
                 const float X[na][ne][nc], const float U[ne][nb][nd])
{
#pragma scop
    for (int a = 0; a < na; a++)
        for (int b = 0; b < nb; b++)
            for (int c = 0; c < nc; c++)
                for (int d = 0; d < nd; d++)
                    for (int e = 0; e < ne; e++)
                        T[a][b][c][d] += X[a][e][c] * U[e][b][d];
#pragma endscop
}
