#include <math.h>
#include <stdint.h>

static inline void i_body(
    float (*restrict C)[100],
    const float (*restrict A)[100],
    const float (*restrict B)[100],
    float alpha,
    int i)
{
    for (int j = 0; j < 93; j += 8) {
        #pragma omp simd
        for (int j_lane = 0; j_lane < 8; j_lane++) {
            C[i][j + j_lane] = 0.0f;
        }
        float acc[8];
        #pragma omp simd
        for (int j_lane = 0; j_lane < 8; j_lane++) {
            acc[j_lane] = C[i][j + j_lane];
        }
        for (int k = 0; k < 100; k++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                acc[j_lane] += alpha * A[i][k] * B[k][j + j_lane];
            }
        }
        #pragma omp simd
        for (int j_lane = 0; j_lane < 8; j_lane++) {
            C[i][j + j_lane] = acc[j_lane];
        }
    }
    for (int j = 96; j < 97; j += 4) {
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            C[i][j + j_lane] = 0.0f;
        }
        float acc[4];
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            acc[j_lane] = C[i][j + j_lane];
        }
        for (int k = 0; k < 100; k++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc[j_lane] += alpha * A[i][k] * B[k][j + j_lane];
            }
        }
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            C[i][j + j_lane] = acc[j_lane];
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
    #pragma omp parallel for schedule(static)
    for (int i = 0; i < 100; i++) {
        i_body(C, A, B, alpha, i);
    }
}

void loopnest_run(void *const args[])
{
    kernel_gemm(args[0], args[1], args[2], *(const float *)args[3]);
}
