void read_where_it_is_there(int n, float a[n], const float b[n], const int at[n], const float t[4])
{
    for (int i = 0; i < n; i++) {
        a[i] = i == 0 ? b[n - 1] : b[i - 1];
        if (i < n - 1 && b[i + 1] > 0)
            a[i] += i > 1 || b[i + 1] > 0.5f ? b[i - (i > 0)] : 3;
        a[i] += at[i] >= 0 && at[i] < 4 ? t[at[i]] : 0;
    }
}
