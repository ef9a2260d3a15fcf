/* Grey image from interleaved red, green and blue bytes: the first step after a colour camera.
   Integer arithmetic on bytes three apart. */
#include <stdint.h>

void grey(int ny, int nx, uint8_t out[ny][nx], const uint8_t rgb[ny][3 * nx])
{
#pragma scop
    for (int i = 0; i < ny; i++)
        for (int j = 0; j < nx; j++)
            out[i][j] =
                (77 * rgb[i][3 * j] + 150 * rgb[i][3 * j + 1] + 29 * rgb[i][3 * j + 2]) >> 8;
#pragma endscop
}
