/* FIR filter of one long signal: vibration monitoring of a spindle. The inner reduction is short
   and the signal stays in cache. */
void fir(int n, int taps, float y[n], const float x[n + taps - 1], const float h[taps])
{
#pragma scop
    for (int t = 0; t < n; t++) {
        float acc = 0.0f;
        for (int k = 0; k < taps; k++)
            acc += h[k] * x[t + k];
        y[t] = acc;
    }
#pragma endscop
}
