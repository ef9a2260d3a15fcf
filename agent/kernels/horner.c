/* Polynomial of a sensor's characteristic, by Horner's rule: linearising thermocouples. Arithmetic
   only, a chain of multiply-adds per value: SIMD gain in double precision. */
void horner(int n, int degree, double y[n], const double x[n], const double c[degree])
{
#pragma scop
    for (int i = 0; i < n; i++) {
        y[i] = 0.0;
        for (int k = 0; k < degree; k++)
            y[i] = y[i] * x[i] + c[k];
    }
#pragma endscop
}
