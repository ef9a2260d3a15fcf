void counter_behind_continue(int n, float *a, const float *b)
{
    for (int i = 0; i < n; i++) {
        int k = 2;
        for (int j = 0; j < n; j++) {
            a[k % 30] += b[j];
            if (k + 1 > j)
                continue;
            k += 3;
        }
    }
}
