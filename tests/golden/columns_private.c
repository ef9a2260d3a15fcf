#include <math.h>
#include <stdint.h>

static inline void i_body(double *restrict y, const double (*restrict A)[70], int i)
{
    #pragma omp simd
    for (int j = 0; j < 70; j++) {
        y[j] += A[i][j];
    }
}

__attribute__((noinline))
static void kernel_columns(double *restrict y, const double (*restrict A)[70])
{
    #pragma omp parallel for schedule(static) reduction(+:y[:70])
    for (int i = 0; i < 100; i++) {
        i_body(y, A, i);
    }
}

void loopnest_run(void *const args[])
{
    kernel_columns(args[0], args[1]);
}
