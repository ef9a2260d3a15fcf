/* Streaming triad: mixing two long recordings. Nothing is used twice: memory bandwidth, of one
   thread and of all. */
void triad(int n, double a[n], const double b[n], const double c[n], double scale)
{
#pragma scop
    for (int i = 0; i < n; i++)
        a[i] = b[i] + scale * c[i];
#pragma endscop
}
