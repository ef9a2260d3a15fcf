#include <math.h>
#include <stdint.h>

static inline int ceild(int n, int d)
{
    return n / d + (n % d > 0);
}

static inline int max2(int a, int b)
{
    return a > b ? a : b;
}

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void i_t_body(double *restrict A, double *restrict B, int t_t, int i_t)
{
    const int t_lo = max2(0, 4 * t_t);
    const int t_hi = min2(69, 4 * t_t + 7);
    for (int t = t_lo; t <= t_hi; t++) {
        const int i_lo = max2(max2(1, 16 * i_t - 2 * t), 16 * i_t + 2 * t - 16 * t_t - 15);
        const int i_hi = min2(min2(98, 16 * i_t - 2 * t + 15), 16 * i_t + 2 * t - 16 * t_t);
        #pragma omp simd
        for (int i = i_lo; i <= i_hi; i++) {
            B[i] = 0.3 * (A[i - 1] + A[i] + A[i + 1]);
        }
        const int i2_lo = max2(max2(1, 16 * i_t - 2 * t - 1), 16 * i_t + 2 * t - 16 * t_t - 14);
        const int i2_hi = min2(min2(98, 16 * i_t - 2 * t + 14), 16 * i_t + 2 * t - 16 * t_t + 1);
        #pragma omp simd
        for (int i2 = i2_lo; i2 <= i2_hi; i2++) {
            A[i2] = 0.3 * (B[i2 - 1] + B[i2] + B[i2 + 1]);
        }
    }
}

__attribute__((noinline))
static void kernel_sweeps(double *restrict A, double *restrict B)
{
    for (int t_t = -1; t_t < 18; t_t++) {
        const int i_t_lo = ceild(16 * t_t - 13, 32);
        const int i_t_hi = (16 * t_t + 211) / 32;
        #pragma omp parallel for schedule(static)
        for (int i_t = i_t_lo; i_t <= i_t_hi; i_t++) {
            i_t_body(A, B, t_t, i_t);
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_sweeps(args[0], args[1]);
}
