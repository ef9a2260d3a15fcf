#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_threshold(
    int32_t *restrict count,
    uint8_t *restrict out,
    const uint8_t *restrict in,
    int32_t limit)
{
    int32_t acc = count[0];
    #pragma omp simd reduction(+:acc)
    for (int i = 0; i < 100; i++) {
        out[i] = in[i] > limit ? 255 : in[i] >> 1;
        acc += in[i] > limit;
    }
    count[0] = acc;
}

void loopnest_run(void *const args[])
{
    kernel_threshold(args[0], args[1], args[2], *(const int32_t *)args[3]);
}
