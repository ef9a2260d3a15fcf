#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_triangular(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x)
{
    for (int i = 0; i < 98; i += 3) {
        if (0 < i) {
            double acc = y[i];
            double acc_2 = y[i + 1];
            double acc_3 = y[i + 2];
            for (int j = 0; j < i; j++) {
                acc -= L[i][j] * x[j];
                acc_2 -= L[i + 1][j] * x[j];
                acc_3 -= L[i + 2][j] * x[j];
            }
            y[i] = acc;
            y[i + 1] = acc_2;
            y[i + 2] = acc_3;
        }
        for (int i_each = i; i_each < i + 3; i_each++) {
            if (i < i_each) {
                double acc_4 = y[i_each];
                for (int j = i; j < i_each; j++) {
                    acc_4 -= L[i_each][j] * x[j];
                }
                y[i_each] = acc_4;
            }
        }
    }
    for (int i = 99; i < 100; i++) {
        double acc = y[i];
        for (int j = 0; j < i; j++) {
            acc -= L[i][j] * x[j];
        }
        y[i] = acc;
    }
}

void loopnest_run(void *const args[])
{
    kernel_triangular(args[0], args[1], args[2]);
}
