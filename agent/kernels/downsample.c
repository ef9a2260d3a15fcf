/* Half-size image by averaging 2 x 2 pixels: a pyramid for coarse-to-fine matching. Strided reads
   in both directions. */
void downsample(int ny, int nx, float out[ny][nx], const float in[2 * ny][2 * nx])
{
#pragma scop
    for (int i = 0; i < ny; i++)
        for (int j = 0; j < nx; j++)
            out[i][j] = 0.25f * (in[2 * i][2 * j] + in[2 * i][2 * j + 1] + in[2 * i + 1][2 * j]
                                 + in[2 * i + 1][2 * j + 1]);
#pragma endscop
}
