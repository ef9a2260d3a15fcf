#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_dot(double *restrict s, const double *restrict x, const double *restrict y)
{
    double s_part[32];
    #pragma omp simd simdlen(8)
    for (int i_lane = 0; i_lane < 32; i_lane++) {
        s_part[i_lane] = 0;
    }
    for (int i = 0; i < 69; i += 32) {
        #pragma omp simd simdlen(8)
        for (int i_lane = 0; i_lane < 32; i_lane++) {
            s_part[i_lane] += x[i + i_lane] * y[i + i_lane];
        }
    }
    double acc = s[0];
    #pragma omp simd simdlen(8) reduction(+:acc)
    for (int i_lane = 0; i_lane < 32; i_lane++) {
        acc += s_part[i_lane];
    }
    s[0] = acc;
    double acc_2 = s[0];
    #pragma omp simd reduction(+:acc_2)
    for (int i = 96; i < 100; i++) {
        acc_2 += x[i] * y[i];
    }
    s[0] = acc_2;
}

void loopnest_run(void *const args[])
{
    kernel_dot(args[0], args[1], args[2]);
}
