void continue_in_if(int n, const float *a, float *b)
{
    for (int i = 0; i < n; i++) {
        if (a[i] > 0.0f) {
            if (a[i] < 0.5f)
                continue;
            b[i] = 1.0f;
        }
        b[i] += a[i];
    }
}
