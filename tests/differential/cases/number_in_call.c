static float lerp(float a, float b, float t)
{
    return a + t * (b - a);
}

void number_in_call(int n, const float *a, float *b)
{
    for (int i = 0; i < n; i++)
        b[i] = a[i / 2] * lerp(a[i % 3], a[i / 2], 0.25f);
}
