#include <math.h>
#include <stdint.h>

__attribute__((noinline))
static void kernel_conditional(
    uint8_t (*restrict x)[30],
    uint32_t *restrict count,
    const uint8_t (*restrict m)[30],
    uint8_t limit)
{
    for (int i = 0; i < 40; i++) {
        for (int j = 0; j < 30; j++) {
            if (limit < m[i][j]) {
                x[i][j] = limit;
                count[i] += 1;
            }
            if (!(limit < m[i][j])) {
                x[i][j] = m[i][j];
            }
            if (i == j) {
                x[i][j] = 0;
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_conditional(args[0], args[1], args[2], *(const uint8_t *)args[3]);
}
