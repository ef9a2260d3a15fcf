#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void i2_t_body(
    float (*restrict C)[100],
    const float (*restrict A)[100],
    const float (*restrict B)[100],
    float alpha,
    int i2_t)
{
    for (int j2_t = 0; j2_t < 100; j2_t += 25) {
        for (int k_t = 0; k_t < 100; k_t += 32) {
            const int i2_hi = min2(i2_t + 31, 99);
            for (int i2 = i2_t; i2 <= i2_hi; i2++) {
                for (int j2 = j2_t; j2 < j2_t + 25; j2++) {
                    const int k_hi = min2(k_t + 31, 99);
                    float acc = C[i2][j2];
                    for (int k = k_t; k <= k_hi; k++) {
                        acc += alpha * A[i2][k] * B[k][j2];
                    }
                    C[i2][j2] = acc;
                }
            }
        }
    }
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
    #pragma omp parallel for schedule(static)
    for (int i2_t = 0; i2_t < 100; i2_t += 32) {
        i2_t_body(C, A, B, alpha, i2_t);
    }
}

void loopnest_run(void *const args[])
{
    kernel_gemm(args[0], args[1], args[2], *(const float *)args[3]);
}
