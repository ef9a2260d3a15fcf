static void put(float *to, float v)
{
    if (v < 0.0f) {
        *to = 0.0f;
        return;
    }
    if (v > 0.5f)
        return;
    *to = v;
}

void early_return(int n, float *a, const float *b)
{
    for (int i = 0; i < n; i++)
        put(&a[i], b[i]);
}
