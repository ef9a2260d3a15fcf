void quotient_bound(int n, float *a, float *b, float *c)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < (n + j) / 2; i++)
            a[i] += j;
    for (int j = 0; j < n; j++) {
        for (int i = n - 1; i >= (j + 1) / 3; i--)
            b[i] += i;
        for (int i = 1; i <= n - 1 - j / 4; i += 2)
            c[i] += j;
        for (int i = 0; i / 2 < j; i++)
            c[i] += 1;
    }
}
