/* First-order recursive filter of many channels: drive current, microphone arrays. Along time each
   value waits for the last one; across channels nothing does. */
void iir(int channels, int n, float y[channels][n], const float x[channels][n])
{
#pragma scop
    for (int c = 0; c < channels; c++)
        for (int t = 1; t < n; t++)
            y[c][t] = 0.875f * y[c][t - 1] + 0.125f * x[c][t];
#pragma endscop
}
