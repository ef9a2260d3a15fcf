#include <math.h>
#include <stdint.h>

static inline void i_body(float (*restrict P)[70], const float (*restrict A)[70], int i)
{
    float top = A[i][0];
    float sum = 0.0f;
    #pragma omp simd reduction(max:top)
    for (int j = 0; j < 70; j++) {
        top = A[i][j] > top ? A[i][j] : top;
    }
    for (int j2 = 0; j2 < 70; j2++) {
        P[i][j2] = expf(A[i][j2] - top);
        sum += P[i][j2];
    }
    for (int j3 = 0; j3 < 70; j3++) {
        P[i][j3] = P[i][j3] / sum;
    }
}

__attribute__((noinline))
static void kernel_softmax(float (*restrict P)[70], const float (*restrict A)[70])
{
    #pragma omp parallel for schedule(static)
    for (int i = 0; i < 100; i++) {
        i_body(P, A, i);
    }
}

void loopnest_run(void *const args[])
{
    kernel_softmax(args[0], args[1]);
}
