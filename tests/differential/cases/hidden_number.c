double hidden_number(int n, float *a, const float *b)
{
    double total = 1.5;
    for (int i = 0; i < n; i++) {
        a[i] = total + b[i];
        {
            float total = 0.25f;
            a[i] *= total;
        }
    }
    return total;
}
