static void add(double *sum, int *count, double v)
{
    if (v < 0)
        return;
    *sum += v;
    count[0]++;
}

static void both(double *one, double *two, int *count, double v)
{
    add(one, count, v);
    *two = *one > *two ? *one : *two;
}

double variable_behind_pointer(int n, const double *x, double *out)
{
    double sum = 0, top = -1;
    int count = 0;
    for (int i = 0; i < n; i++) {
        double own = 1;
        both(&sum, &top, &count, x[i]);
        add(&own, &count, sum);
        out[i] = own + count;
    }
    return top + count;
}
