void breaks(int n, int m, float *a, const float *b)
{
    for (int i = 0; i < n; i++) {
        if (i >= m || 2 * i > n)
            break;
        a[i] = b[i];
    }
    int j = 0;
    while (1) {
        if (j == m)
            break;
        if (!(j < 9))
            break;
        a[j] += b[n - 1 - j];
        j++;
    }
    a[j] += 4.0f;
    for (;;) {
        a[m] -= b[m];
        m--;
        if (m <= 0)
            break;
    }
    for (int k = 3;; k += 2) {
        if (k > n - 1)
            break;
        if (b[k] > 0.25f)
            continue;
        a[k] += 1.0f;
    }
}
