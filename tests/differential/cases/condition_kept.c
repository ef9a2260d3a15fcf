#include <string.h>

static void swap(float *one, float *two)
{
    float kept = *one;
    *one = *two;
    *two = kept;
}

void condition_kept(int n, float *a, float *b)
{
    for (int i = 0; i < n; i++)
        if (a[i] > b[i])
            swap(&a[i], &b[i]);
    for (int i = 1; i < n; i++) {
        b[i] += 0.5f;
        if (a[0] + a[1] > 0.25f)
            continue;
        memset(a, 0, 2 * sizeof *a);
    }
    for (int i = 0; i + 2 < n; i++)
        if (b[i] < 0.0f)
            memcpy(b + i, a + i, 2 * sizeof *b);
}
