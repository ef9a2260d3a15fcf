#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
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
            #pragma omp simd
            for (int j_lane = 0; j_lane < 16; j_lane++) {
                s_lanes16_0[j_lane] = 0.0f;
                s_lanes16_1[j_lane] = 0.0f;
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 16; j_lane++) {
                    s_lanes16_0[j_lane] += (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i][k] - b_pack_j_t[k][j + j_lane - j_t]);
                    s_lanes16_1[j_lane] += (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]) * (a[i + 1][k] - b_pack_j_t[k][j + j_lane - j_t]);
                }
            }
            #pragma omp simd
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
    for (int k_copy = 0; k_copy < 100; k_copy++) {
        const int j_copy_hi = min2(j_t + 31, 99);
        for (int j_copy = j_t; j_copy <= j_copy_hi; j_copy++) {
            b_pack_j_t[k_copy][j_copy - j_t] = b[j_copy][k_copy];
        }
    }
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
