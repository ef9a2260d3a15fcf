#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void i_t_body(
    uint8_t (*restrict x)[30],
    uint32_t *restrict count,
    const uint8_t (*restrict m)[30],
    uint8_t limit,
    int i_t)
{
    for (int i = i_t; i < i_t + 8; i++) {
        for (int j_t = 0; j_t < 30; j_t += 16) {
            const int j_hi = min2(j_t + 15, 29);
            for (int j = j_t; j <= j_hi; j++) {
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
}

__attribute__((noinline))
static void kernel_conditional(
    uint8_t (*restrict x)[30],
    uint32_t *restrict count,
    const uint8_t (*restrict m)[30],
    uint8_t limit)
{
    #pragma omp parallel for schedule(static)
    for (int i_t = 0; i_t < 40; i_t += 8) {
        i_t_body(x, count, m, limit, i_t);
    }
}

void loopnest_run(void *const args[])
{
    kernel_conditional(args[0], args[1], args[2], *(const uint8_t *)args[3]);
}
