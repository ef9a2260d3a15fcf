#include <math.h>
#include <stdint.h>

static inline void i_packed(
    double *restrict y,
    const double *restrict x_pack_r,
    int i,
    const double *restrict L_pack_i)
{
    double acc = y[i];
    for (int j = 0; j < 100; j++) {
        acc += x_pack_r[j] * L_pack_i[j];
    }
    y[i] = acc;
}

static inline void r_packed(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x_pack_r)
{
    for (int i = 0; i < 100; i++) {
        double L_pack_i[100] __attribute__((aligned(64)));
        for (int j_copy = 0; j_copy < 100; j_copy++) {
            L_pack_i[j_copy] = L[i][j_copy];
        }
        i_packed(y, x_pack_r, i, L_pack_i);
    }
}

__attribute__((noinline))
static void kernel_repeated(
    double *restrict y,
    const double (*restrict L)[100],
    const double *restrict x)
{
    for (int r = 0; r < 100; r++) {
        double x_pack_r[100] __attribute__((aligned(64)));
        for (int j_copy = 0; j_copy < 100; j_copy++) {
            x_pack_r[j_copy] = x[j_copy];
        }
        r_packed(y, L, x_pack_r);
    }
}

void loopnest_run(void *const args[])
{
    kernel_repeated(args[0], args[1], args[2]);
}
