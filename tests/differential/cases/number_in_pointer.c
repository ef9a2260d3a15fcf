static void clear(float *to)
{
    if (*to > 0.5f)
        *to = 0.5f;
}

static void add(float *to, float *other, float v)
{
    float *next = to + 1;
    if (v < 0.0f)
        return;
    if (*other > 0.0f) {
        clear(&other[1]);
        *to += v;
    }
    *next += *to;
}

void number_in_pointer(int n, float *a, float *b, const float *c)
{
    for (int t = 0; t < n; t++)
        for (int i = 0; i < 8; i++)
            add(&a[t % 2 * 9 + i], b + i / 3, c[i * t]);
}
