void own_step(int n, unsigned *b)
{
    unsigned twice = 1, growing = 0, step = 1, sum = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 3; k++)
            sum += sum + 1;
        b[i] += twice + growing + sum;
        twice += twice;
        growing += step;
        step += 2;
        sum += i;
    }
}
