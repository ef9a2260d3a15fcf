/* Separable blur, first along rows, then along columns: noise removal before edges are measured.
   The second statement consumes what the first produces; fusing them saves the round trip. */
void blur(int ny, int nx, float out[ny][nx], float rows[ny][nx], const float in[ny][nx])
{
#pragma scop
    for (int i = 0; i < ny; i++)
        for (int j = 2; j < nx - 2; j++)
            rows[i][j] = 0.0625f * in[i][j - 2] + 0.25f * in[i][j - 1] + 0.375f * in[i][j]
                + 0.25f * in[i][j + 1] + 0.0625f * in[i][j + 2];
    for (int i = 2; i < ny - 2; i++)
        for (int j = 2; j < nx - 2; j++)
            out[i][j] = 0.0625f * rows[i - 2][j] + 0.25f * rows[i - 1][j] + 0.375f * rows[i][j]
                + 0.25f * rows[i + 1][j] + 0.0625f * rows[i + 2][j];
#pragma endscop
}
