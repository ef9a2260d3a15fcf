#include <math.h>
#include <stdint.h>

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
    for (int i2 = 0; i2 < 97; i2 += 4) {
        for (int k = 0; k < 100; k++) {
            for (int j2 = 0; j2 < 85; j2 += 16) {
                #pragma omp simd simdlen(16)
                for (int j2_lane = 0; j2_lane < 16; j2_lane++) {
                    C[i2][j2 + j2_lane] += alpha * A[i2][k] * B[k][j2 + j2_lane];
                }
                #pragma omp simd simdlen(16)
                for (int j2_lane = 0; j2_lane < 16; j2_lane++) {
                    C[i2 + 1][j2 + j2_lane] += alpha * A[i2 + 1][k] * B[k][j2 + j2_lane];
                }
                #pragma omp simd simdlen(16)
                for (int j2_lane = 0; j2_lane < 16; j2_lane++) {
                    C[i2 + 2][j2 + j2_lane] += alpha * A[i2 + 2][k] * B[k][j2 + j2_lane];
                }
                #pragma omp simd simdlen(16)
                for (int j2_lane = 0; j2_lane < 16; j2_lane++) {
                    C[i2 + 3][j2 + j2_lane] += alpha * A[i2 + 3][k] * B[k][j2 + j2_lane];
                }
            }
            #pragma omp simd
            for (int j2 = 96; j2 < 100; j2++) {
                C[i2][j2] += alpha * A[i2][k] * B[k][j2];
                C[i2 + 1][j2] += alpha * A[i2 + 1][k] * B[k][j2];
                C[i2 + 2][j2] += alpha * A[i2 + 2][k] * B[k][j2];
                C[i2 + 3][j2] += alpha * A[i2 + 3][k] * B[k][j2];
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_gemm(args[0], args[1], args[2], *(const float *)args[3]);
}
