/* Moving average of many channels: smoothing of temperature and pressure logs. One division per
   result after a short reduction. */
void moving_average(int channels, int n, int width, double y[channels][n],
                    const double x[channels][n + width - 1])
{
#pragma scop
    for (int c = 0; c < channels; c++)
        for (int t = 0; t < n; t++) {
            y[c][t] = 0.0;
            for (int k = 0; k < width; k++)
                y[c][t] += x[c][t + k];
            y[c][t] = y[c][t] / width;
        }
#pragma endscop
}
