#include <math.h>
#include <stdint.h>

static inline void i_body(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x,
    int i)
{
    if (0 < i) {
        double acc = y[i];
        #pragma omp simd reduction(+:acc)
        for (int j = 0; j < i; j++) {
            acc -= L[i][j] * x[j];
        }
        y[i] = acc;
    }
}

__attribute__((noinline))
static void kernel_triangular(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x)
{
    #pragma omp parallel for schedule(static, 8)
    for (int i = 0; i < 100; i++) {
        i_body(y, L, x, i);
    }
}

void loopnest_run(void *const args[])
{
    kernel_triangular(args[0], args[1], args[2]);
}
