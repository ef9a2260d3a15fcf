#include <stdint.h>

void while_loops(uint32_t n, uint8_t m, float *a, const float *b)
{
    uint32_t left = n >> 2u;
    float *to = a;
    const float *from = b;
    while (left > 0u) {
        *to++ = 2.0f * *from++;
        *to++ = *from++;
        *to++ = *from++ + 1.0f;
        *to++ = *from++ - 1.0f;
        left--;
    }
    left = n % 4u;
    while (left > 0u) {
        *to++ = *from++;
        left--;
    }
    int i = 0;
    do {
        a[i] += b[i];
        i += 2;
    } while (i < 11);
    while (--m)
        a[m] *= 0.5f;
    do {
        *to = *from;
        to--;
    } while (--n > 3);
}
