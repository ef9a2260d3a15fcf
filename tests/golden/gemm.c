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
            float acc = C[i][j];
            for (int k = 0; k < 100; k++) {
                acc += alpha * A[i][k] * B[k][j];
            }
            C[i][j] = acc;
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_gemm(args[0], args[1], args[2], *(const float *)args[3]);
}
