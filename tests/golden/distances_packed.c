#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void transpose_float(
    int64_t rows, int64_t columns, const float *restrict from, int64_t from_row,
    float *restrict to, int64_t to_row)
{
    int64_t whole_rows = 0;
#if defined(__AVX__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    const int64_t whole = columns / 8 * 8;
    whole_rows = rows / 8 * 8;
    for (int64_t r = 0; r < whole_rows; r += 8) {
        for (int64_t c = 0; c < whole; c += 8) {
            typedef float row __attribute__((vector_size(32)));
            const float *in = from + r * from_row + c;
            float *out = to + c * to_row + r;
            row a0, a1, a2, a3, a4, a5, a6, a7;
            __builtin_memcpy(&a0, in + 0 * from_row, 32);
            __builtin_memcpy(&a1, in + 1 * from_row, 32);
            __builtin_memcpy(&a2, in + 2 * from_row, 32);
            __builtin_memcpy(&a3, in + 3 * from_row, 32);
            __builtin_memcpy(&a4, in + 4 * from_row, 32);
            __builtin_memcpy(&a5, in + 5 * from_row, 32);
            __builtin_memcpy(&a6, in + 6 * from_row, 32);
            __builtin_memcpy(&a7, in + 7 * from_row, 32);
            row b1 = __builtin_shufflevector(a0, a1, 0, 8, 1, 9, 4, 12, 5, 13);
            row b2 = __builtin_shufflevector(a0, a1, 2, 10, 3, 11, 6, 14, 7, 15);
            row b3 = __builtin_shufflevector(a2, a3, 0, 8, 1, 9, 4, 12, 5, 13);
            row b4 = __builtin_shufflevector(a2, a3, 2, 10, 3, 11, 6, 14, 7, 15);
            row b5 = __builtin_shufflevector(a4, a5, 0, 8, 1, 9, 4, 12, 5, 13);
            row b6 = __builtin_shufflevector(a4, a5, 2, 10, 3, 11, 6, 14, 7, 15);
            row b7 = __builtin_shufflevector(a6, a7, 0, 8, 1, 9, 4, 12, 5, 13);
            row b8 = __builtin_shufflevector(a6, a7, 2, 10, 3, 11, 6, 14, 7, 15);
            row b9 = __builtin_shufflevector(b1, b3, 0, 1, 8, 9, 4, 5, 12, 13);
            row b10 = __builtin_shufflevector(b1, b3, 2, 3, 10, 11, 6, 7, 14, 15);
            row b11 = __builtin_shufflevector(b2, b4, 0, 1, 8, 9, 4, 5, 12, 13);
            row b12 = __builtin_shufflevector(b2, b4, 2, 3, 10, 11, 6, 7, 14, 15);
            row b13 = __builtin_shufflevector(b5, b7, 0, 1, 8, 9, 4, 5, 12, 13);
            row b14 = __builtin_shufflevector(b5, b7, 2, 3, 10, 11, 6, 7, 14, 15);
            row b15 = __builtin_shufflevector(b6, b8, 0, 1, 8, 9, 4, 5, 12, 13);
            row b16 = __builtin_shufflevector(b6, b8, 2, 3, 10, 11, 6, 7, 14, 15);
            row b17 = __builtin_shufflevector(b9, b13, 0, 1, 2, 3, 8, 9, 10, 11);
            __builtin_memcpy(out + 0 * to_row, &b17, 32);
            row b18 = __builtin_shufflevector(b9, b13, 4, 5, 6, 7, 12, 13, 14, 15);
            __builtin_memcpy(out + 4 * to_row, &b18, 32);
            row b19 = __builtin_shufflevector(b10, b14, 0, 1, 2, 3, 8, 9, 10, 11);
            __builtin_memcpy(out + 1 * to_row, &b19, 32);
            row b20 = __builtin_shufflevector(b10, b14, 4, 5, 6, 7, 12, 13, 14, 15);
            __builtin_memcpy(out + 5 * to_row, &b20, 32);
            row b21 = __builtin_shufflevector(b11, b15, 0, 1, 2, 3, 8, 9, 10, 11);
            __builtin_memcpy(out + 2 * to_row, &b21, 32);
            row b22 = __builtin_shufflevector(b11, b15, 4, 5, 6, 7, 12, 13, 14, 15);
            __builtin_memcpy(out + 6 * to_row, &b22, 32);
            row b23 = __builtin_shufflevector(b12, b16, 0, 1, 2, 3, 8, 9, 10, 11);
            __builtin_memcpy(out + 3 * to_row, &b23, 32);
            row b24 = __builtin_shufflevector(b12, b16, 4, 5, 6, 7, 12, 13, 14, 15);
            __builtin_memcpy(out + 7 * to_row, &b24, 32);
        }
        for (int64_t c = whole; c < columns; c++) {
            for (int64_t k = r; k < r + 8; k++) {
                to[c * to_row + k] = from[k * from_row + c];
            }
        }
    }
#endif
#endif
    for (int64_t r = whole_rows; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            to[c * to_row + r] = from[r * from_row + c];
        }
    }
}

static inline void j_t_packed(
    float (*restrict out)[100],
    const float (*restrict a)[100],
    int j_t,
    const float (*restrict b_pack_j_t)[32])
{
    for (int i = 0; i < 99; i += 2) {
        const int j_hi = min2(j_t + 16, 84);
        for (int j = j_t; j <= j_hi; j += 16) {
            float s_lanes16_0[16];
            float s_lanes16_1[16];
            #pragma omp simd simdlen(16)
            for (int j_lane = 0; j_lane < 16; j_lane++) {
                s_lanes16_0[j_lane] = 0.0f;
                s_lanes16_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd simdlen(16)
                for (int j_lane = 0; j_lane < 16; j_lane++) {
                    s_lanes16_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
                #pragma omp simd simdlen(16)
                for (int j_lane = 0; j_lane < 16; j_lane++) {
                    s_lanes16_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd simdlen(16)
            for (int j_lane = 0; j_lane < 16; j_lane++) {
                out[i][j + j_lane] = s_lanes16_0[j_lane];
                out[i + 1][j + j_lane] = s_lanes16_1[j_lane];
            }
        }
        const int j_hi_2 = min2(j_t + 31, 99);
        const int j_rest16 = j_t + (j_hi_2 - j_t + 1) / 16 * 16;
        const int j_hi_3 = min2(j_t + 24, 92);
        for (int j = j_rest16; j <= j_hi_3; j += 8) {
            float s_lanes8_0[8];
            float s_lanes8_1[8];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                s_lanes8_0[j_lane] = 0.0f;
                s_lanes8_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    s_lanes8_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    s_lanes8_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                out[i][j + j_lane] = s_lanes8_0[j_lane];
                out[i + 1][j + j_lane] = s_lanes8_1[j_lane];
            }
        }
        const int j_rest8 = j_t + (j_hi_2 - j_t + 1) / 8 * 8;
        const int j_hi_4 = min2(j_t + 28, 96);
        for (int j = j_rest8; j <= j_hi_4; j += 4) {
            float s_lanes4_0[4];
            float s_lanes4_1[4];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                s_lanes4_0[j_lane] = 0.0f;
                s_lanes4_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    s_lanes4_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    s_lanes4_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                out[i][j + j_lane] = s_lanes4_0[j_lane];
                out[i + 1][j + j_lane] = s_lanes4_1[j_lane];
            }
        }
        const int j_rest4 = j_t + (j_hi_2 - j_t + 1) / 4 * 4;
        const int j_hi_5 = min2(j_t + 30, 98);
        for (int j = j_rest4; j <= j_hi_5; j += 2) {
            float s_lanes2_0[2];
            float s_lanes2_1[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                s_lanes2_0[j_lane] = 0.0f;
                s_lanes2_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    s_lanes2_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    s_lanes2_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                out[i][j + j_lane] = s_lanes2_0[j_lane];
                out[i + 1][j + j_lane] = s_lanes2_1[j_lane];
            }
        }
        const int j_rest2 = j_t + (j_hi_2 - j_t + 1) / 2 * 2;
        for (int j = j_rest2; j <= j_hi_2; j++) {
            float s_lanes1_0[1];
            float s_lanes1_1[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                s_lanes1_0[j_lane] = 0.0f;
                s_lanes1_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    s_lanes1_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    s_lanes1_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                out[i][j + j_lane] = s_lanes1_0[j_lane];
                out[i + 1][j + j_lane] = s_lanes1_1[j_lane];
            }
        }
    }
}

static inline void j_t_body(
    float (*restrict out)[100],
    const float (*restrict a)[100],
    const float (*restrict b)[100],
    int j_t)
{
    float b_pack_j_t[100][32] __attribute__((aligned(64)));
    const int j_copy_hi = min2(j_t + 31, 99);
    transpose_float(j_copy_hi - j_t + 1, 100, &b[j_t][0], 100, &b_pack_j_t[0][0], 32);
    j_t_packed(out, a, j_t, b_pack_j_t);
}

__attribute__((noinline))
static void kernel_distances(
    float (*restrict out)[100],
    const float (*restrict a)[100],
    const float (*restrict b)[100])
{
    #pragma omp parallel for schedule(static)
    for (int j_t = 0; j_t < 100; j_t += 32) {
        j_t_body(out, a, b, j_t);
    }
}

void loopnest_run(void *const args[])
{
    kernel_distances(args[0], args[1], args[2]);
}
