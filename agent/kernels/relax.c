/* Exponential smoothing of a frame, many times over: background models of a camera. The sizes of
   the set keep it in the first or in the second cache, whose bandwidth it shows; with threads
   inside the time loop it shows what a fork costs. */
void relax(int steps, int n, float z[n], const float x[n])
{
#pragma scop
    for (int t = 0; t < steps; t++)
        for (int i = 0; i < n; i++)
            z[i] = 0.75f * z[i] + 0.25f * x[i];
#pragma endscop
}
