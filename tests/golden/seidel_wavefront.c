#include <math.h>
#include <stdint.h>

static inline int max2(int a, int b)
{
    return a > b ? a : b;
}

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

__attribute__((noinline))
static void kernel_seidel(double (*restrict A)[100])
{
    for (int t = 0; t < 10; t++) {
        for (int j = 2; j < 197; j++) {
            const int i_lo = max2(1, j - 98);
            const int i_hi = min2(98, j - 1);
            #pragma omp simd
            for (int i = i_lo; i <= i_hi; i++) {
                A[i][j - i] = 0.2 * (A[i][j - i] + A[i - 1][j - i] + A[i][j - i - 1] + A[i + 1][j - i] + A[i][j - i + 1]);
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_seidel(args[0]);
}
