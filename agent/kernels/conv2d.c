/* Convolution layer with several channels: defect detection on camera images. Six loops
   with short inner ones; order and tiling decide. */
void conv2d(int no, int nc, int ny, int nx, int nw, float out[no][ny][nx],
            const float in[nc][ny + nw - 1][nx + nw - 1], const float weight[no][nc][nw][nw])
{
#pragma scop
    for (int o = 0; o < no; o++)
        for (int c = 0; c < nc; c++)
            for (int y = 0; y < ny; y++)
                for (int x = 0; x < nx; x++)
                    for (int p = 0; p < nw; p++)
                        for (int q = 0; q < nw; q++)
                            out[o][y][x] += in[c][y + p][x + q] * weight[o][c][p][q];
#pragma endscop
}
