#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

__attribute__((noinline))
static void kernel_triangular(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x)
{
    for (int j_t = 0; j_t < 99; j_t += 16) {
        const int j_hi = min2(j_t + 15, 98);
        for (int j = j_t; j <= j_hi; j++) {
            #pragma omp simd
            for (int i = j + 1; i < 100; i++) {
                y[i] -= L[i][j] * x[j];
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_triangular(args[0], args[1], args[2]);
}
