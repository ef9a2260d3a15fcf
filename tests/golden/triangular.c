#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_triangular(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x)
{
    for (int i = 0; i < 100; i++) {
        if (0 < i) {
            double acc = y[i];
            for (int j = 0; j < i; j++) {
                acc -= L[i][j] * x[j];
            }
            y[i] = acc;
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_triangular(args[0], args[1], args[2]);
}
