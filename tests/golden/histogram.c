#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_histogram(
    uint32_t *restrict bins,
    uint8_t (*restrict out)[32],
    const uint8_t (*restrict image)[32],
    const uint8_t *restrict lut)
{
    for (int j = 0; j < 31; j += 2) {
        for (int i = 0; i < 24; i++) {
            bins[image[i][j]] += 1;
            out[i][j] = lut[image[i][j]];
            bins[image[i][j + 1]] += 1;
            out[i][j + 1] = lut[image[i][j + 1]];
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_histogram(args[0], args[1], args[2], args[3]);
}
