/* Sobel edge strength of an 8-bit camera image: finding the edge of a part. Bytes in, integers
   between, bytes out: the SIMD gain of small integers. */
#include <stdint.h>
#include <stdlib.h>

void sobel(int ny, int nx, uint8_t edge[ny][nx], const uint8_t image[ny][nx])
{
#pragma scop
    for (int i = 1; i < ny - 1; i++)
        for (int j = 1; j < nx - 1; j++) {
            int gx = image[i - 1][j + 1] + 2 * image[i][j + 1] + image[i + 1][j + 1]
                - image[i - 1][j - 1] - 2 * image[i][j - 1] - image[i + 1][j - 1];
            int gy = image[i + 1][j - 1] + 2 * image[i + 1][j] + image[i + 1][j + 1]
                - image[i - 1][j - 1] - 2 * image[i - 1][j] - image[i - 1][j + 1];
            edge[i][j] = (uint8_t)(abs(gx) + abs(gy) > 255 ? 255 : abs(gx) + abs(gy));
        }
#pragma endscop
}
