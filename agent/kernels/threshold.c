/* Three-level threshold of an 8-bit image: good, doubtful, defect. Comparisons and selections on
   bytes, two bytes moved per pixel. */
#include <stdint.h>

void threshold(int ny, int nx, uint8_t mask[ny][nx], const uint8_t image[ny][nx], int low, int high)
{
#pragma scop
    for (int i = 0; i < ny; i++)
        for (int j = 0; j < nx; j++)
            mask[i][j] = image[i][j] > high ? 255 : (image[i][j] > low ? 128 : 0);
#pragma endscop
}
