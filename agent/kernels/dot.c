/* Scalar product of two signals: correlation with a reference. One long reduction into one
   element: the latency of an addition, then SIMD and threads if they may re-associate. */
void dot(int n, float s[1], const float x[n], const float y[n])
{
#pragma scop
    s[0] = 0.0f;
    for (int i = 0; i < n; i++)
        s[0] += x[i] * y[i];
#pragma endscop
}
