#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

__attribute__((noinline))
static void kernel_scaled(
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
                        double t_lanes8 = L[i][j + j_lane] + 1.0;
                        t_lanes8 *= x[j + j_lane];
                        y_part[j_lane] += t_lanes8 * x[i];
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
                double t = L[i][j] + 1.0;
                t *= x[j];
                acc_2 += t * x[i];
            }
            y[i] = acc_2;
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_scaled(args[0], args[1], args[2]);
}
