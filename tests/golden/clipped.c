#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_clipped(
    int64_t (*restrict x)[20],
    int64_t *restrict total,
    const int16_t (*restrict m)[20])
{
    int64_t acc = total[0];
    #pragma omp parallel for schedule(static) reduction(+:acc)
    for (int i = 0; i < 30; i++) {
        #pragma omp simd reduction(+:acc)
        for (int j = 0; j < 20; j++) {
            int64_t t;
            if (0 < i && i < 29 - j) {
                t = m[i - 1][j];
                x[i][j] = t;
            }
            if (0 < i && i < 29 - j && 10 < t) {
                acc += t;
            }
        }
    }
    total[0] = acc;
}

void loopnest_run(void *const args[])
{
    kernel_clipped(args[0], args[1], args[2]);
}
