void last_continue(int n, float *a, const float *b)
{
    for (int i = 0; i < n; i++) {
        a[i] = 2.0f;
        if (b[i] > 0.0f) {
            a[i] = b[i];
            continue;
        } else {
            a[i] += 1.0f;
            continue;
        }
    }
    for (int i = 0; i < n; i++) {
        a[i] *= b[i];
        continue;
    }
}
