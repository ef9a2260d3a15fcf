#include <stdint.h>

int greatest_number(int n, const int *a, const uint8_t *b, int *least)
{
    int most = a[0], low = 1000;
    uint8_t top = 0;
    for (int i = 0; i < n; i++) {
        if (a[i] > most)
            most = a[i];
        if (low >= a[i]) {
            low = a[i];
        }
        top = b[i] > top ? b[i] : top;
    }
    *least = low;
    return most + top;
}
