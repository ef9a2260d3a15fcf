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
    for (int i = 0; i < 99; i += 2) {
        const int j_once_hi = min2(0, i - 8);
        if (0 <= j_once_hi) {
            double acc = y[i];
            double acc_2 = y[i + 1];
            for (int j_once = 0; j_once <= j_once_hi; j_once++) {
                double y_part[8];
                double y_part_[8];
                #pragma omp simd simdlen(8)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    y_part[j_lane] = 0;
                    y_part_[j_lane] = 0;
                }
                for (int j = 0; j < i - 7; j += 8) {
                    #pragma omp simd simdlen(8)
                    for (int j_lane = 0; j_lane < 8; j_lane++) {
                        double t_0_lanes8 = L[i][j + j_lane] + 1.0;
                        t_0_lanes8 *= x[j + j_lane];
                        y_part[j_lane] += t_0_lanes8 * x[i];
                        double t_1_lanes8 = L[i + 1][j + j_lane] + 1.0;
                        t_1_lanes8 *= x[j + j_lane];
                        y_part_[j_lane] += t_1_lanes8 * x[i + 1];
                    }
                }
                #pragma omp simd simdlen(8) reduction(+:acc)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc += y_part[j_lane];
                }
                #pragma omp simd simdlen(8) reduction(+:acc_2)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc_2 += y_part_[j_lane];
                }
            }
            y[i] = acc;
            y[i + 1] = acc_2;
        }
        const int j_rest8 = 0 + (i - 1 - 0 + 1) / 8 * 8;
        if (j_rest8 < i) {
            double acc_3 = y[i];
            double acc_4 = y[i + 1];
            #pragma omp simd reduction(+:acc_3,acc_4)
            for (int j = j_rest8; j < i; j++) {
                double t_0 = L[i][j] + 1.0;
                t_0 *= x[j];
                acc_3 += t_0 * x[i];
                double t_1 = L[i + 1][j] + 1.0;
                t_1 *= x[j];
                acc_4 += t_1 * x[i + 1];
            }
            y[i] = acc_3;
            y[i + 1] = acc_4;
        }
        for (int i_each = i; i_each < i + 2; i_each++) {
            if (i < i_each) {
                double acc_5 = y[i_each];
                for (int j = i; j < i_each; j++) {
                    double t_each_j = L[i_each][j] + 1.0;
                    t_each_j *= x[j];
                    acc_5 += t_each_j * x[i_each];
                }
                y[i_each] = acc_5;
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_scaled(args[0], args[1], args[2]);
}
