#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

__attribute__((noinline))
static void kernel_dot(double *restrict s, const double *restrict x, const double *restrict y)
{
    double acc = s[0];
    #pragma omp parallel for schedule(static) reduction(+:acc)
    for (int i_t = 0; i_t < 100; i_t += 24) {
        const int i_hi = min2(i_t + 23, 99);
        #pragma omp simd reduction(+:acc)
        for (int i = i_t; i <= i_hi; i++) {
            acc += x[i] * y[i];
        }
    }
    s[0] = acc;
}

void loopnest_run(void *const args[])
{
    kernel_dot(args[0], args[1], args[2]);
}
