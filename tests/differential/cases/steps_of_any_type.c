void steps_of_any_type(int n, unsigned char *a, signed char *s, float *f, int *b)
{
    for (int i = 0; i < n; i++) {
        b[i] = a[0]++ + s[0]--;
        f[i + 1] = f[0]++;
        f[0] *= 1000003.0f;
        b[i] += --a[i / 2];
    }
}
