#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

__attribute__((noinline))
static void kernel_gemm(
    float (*restrict C)[100],
    const float (*restrict A)[100],
    const float (*restrict B)[100],
    float alpha)
{
    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 100; j++) {
            C[i][j] = 0.0f;
        }
    }
    for (int i2_t = 0; i2_t < 100; i2_t += 32) {
        const int i2_hi = min2(i2_t + 29, 97);
        for (int i2 = i2_t; i2 <= i2_hi; i2 += 3) {
            for (int j2 = 0; j2 < 100; j2++) {
                float acc = C[i2][j2];
                float acc_2 = C[i2 + 1][j2];
                float acc_3 = C[i2 + 2][j2];
                #pragma GCC unroll 4
                for (int k = 0; k < 100; k++) {
                    acc += alpha * A[i2][k] * B[k][j2];
                    acc_2 += alpha * A[i2 + 1][k] * B[k][j2];
                    acc_3 += alpha * A[i2 + 2][k] * B[k][j2];
                }
                C[i2][j2] = acc;
                C[i2 + 1][j2] = acc_2;
                C[i2 + 2][j2] = acc_3;
            }
        }
        const int i2_hi_2 = min2(i2_t + 31, 99);
        const int i2_rest = i2_t + (i2_hi_2 - i2_t + 1) / 3 * 3;
        for (int i2 = i2_rest; i2 <= i2_hi_2; i2++) {
            for (int j2 = 0; j2 < 100; j2++) {
                float acc = C[i2][j2];
                #pragma GCC unroll 4
                for (int k = 0; k < 100; k++) {
                    acc += alpha * A[i2][k] * B[k][j2];
                }
                C[i2][j2] = acc;
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_gemm(args[0], args[1], args[2], *(const float *)args[3]);
}
