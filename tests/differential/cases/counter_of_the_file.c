static int at, hits;

static void next(void)
{
    at++;
}

static void hit(float v)
{
    if (v < 0.0f)
        return;
    hits += 2;
}

int counter_of_the_file(int n, float a[20], const float *b)
{
    hits = 1;
    at = 0;
    for (int i = 0; i < n; i++) {
        a[at] = b[i] + at;
        next();
    }
    for (int i = 0; i < n; i++)
        hit(b[i]);
    return hits + at;
}
