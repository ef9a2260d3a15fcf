/* Flat-field correction: (raw - dark) / gain for every pixel of a microscope image. One division
   per pixel: the throughput of division. */
void flat_field(int ny, int nx, float out[ny][nx], const float raw[ny][nx], const float dark[nx],
                const float gain[nx])
{
#pragma scop
    for (int i = 0; i < ny; i++)
        for (int j = 0; j < nx; j++)
            out[i][j] = (raw[i][j] - dark[j]) / (1.0f + gain[j] * gain[j]);
#pragma endscop
}
