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
    for (int i = 0; i < 100; i++) {
        const int j_once_hi = min2(0, i - 8);
        if (0 <= j_once_hi) {
            double acc = y[i];
            for (int j_once = 0; j_once <= j_once_hi; j_once++) {
                double y_part[8];
                #pragma omp simd simdlen(8)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    y_part[j_lane] = 0;
                }
                for (int j = 0; j < i - 7; j += 8) {
                    #pragma omp simd simdlen(8)
                    for (int j_lane = 0; j_lane < 8; j_lane++) {
                        y_part[j_lane] -= L[i][j + j_lane] * x[j + j_lane];
                    }
                }
                #pragma omp simd simdlen(8) reduction(+:acc)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc += y_part[j_lane];
                }
            }
            y[i] = acc;
        }
        const int j_rest8 = 0 + (i - 1 - 0 + 1) / 8 * 8;
        if (j_rest8 < i) {
            double acc_2 = y[i];
            #pragma omp simd reduction(+:acc_2)
            for (int j = j_rest8; j < i; j++) {
                acc_2 -= L[i][j] * x[j];
            }
            y[i] = acc_2;
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_triangular(args[0], args[1], args[2]);
}
