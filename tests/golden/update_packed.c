#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void transpose_double(
    int64_t rows, int64_t columns, const double *restrict from, int64_t from_row,
    double *restrict to, int64_t to_row)
{
    int64_t whole_rows = 0;
#if defined(__AVX__) && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    const int64_t whole = columns / 4 * 4;
    whole_rows = rows / 4 * 4;
    for (int64_t r = 0; r < whole_rows; r += 4) {
        for (int64_t c = 0; c < whole; c += 4) {
            typedef double row __attribute__((vector_size(32)));
            const double *in = from + r * from_row + c;
            double *out = to + c * to_row + r;
            row a0, a1, a2, a3;
            __builtin_memcpy(&a0, in + 0 * from_row, 32);
            __builtin_memcpy(&a1, in + 1 * from_row, 32);
            __builtin_memcpy(&a2, in + 2 * from_row, 32);
            __builtin_memcpy(&a3, in + 3 * from_row, 32);
            row b1 = __builtin_shufflevector(a0, a1, 0, 4, 2, 6);
            row b2 = __builtin_shufflevector(a0, a1, 1, 5, 3, 7);
            row b3 = __builtin_shufflevector(a2, a3, 0, 4, 2, 6);
            row b4 = __builtin_shufflevector(a2, a3, 1, 5, 3, 7);
            row b5 = __builtin_shufflevector(b1, b3, 0, 1, 4, 5);
            __builtin_memcpy(out + 0 * to_row, &b5, 32);
            row b6 = __builtin_shufflevector(b1, b3, 2, 3, 6, 7);
            __builtin_memcpy(out + 2 * to_row, &b6, 32);
            row b7 = __builtin_shufflevector(b2, b4, 0, 1, 4, 5);
            __builtin_memcpy(out + 1 * to_row, &b7, 32);
            row b8 = __builtin_shufflevector(b2, b4, 2, 3, 6, 7);
            __builtin_memcpy(out + 3 * to_row, &b8, 32);
        }
        for (int64_t c = whole; c < columns; c++) {
            for (int64_t k = r; k < r + 4; k++) {
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
    double (*restrict C)[100],
    const double (*restrict A)[70],
    int j_t,
    const double (*restrict A_pack_j_t)[32])
{
    for (int i = j_t; i < 99; i += 2) {
        const int j_hi = min2(j_t + 24, i - 7);
        for (int j = j_t; j <= j_hi; j += 8) {
            double acc[8];
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            double acc_2[8];
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                acc_2[j_lane] = C[i + 1][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd simdlen(8)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
                #pragma omp simd simdlen(8)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc_2[j_lane] += A[i + 1][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                C[i + 1][j + j_lane] = acc_2[j_lane];
            }
        }
        const int j_hi_2 = min2(j_t + 31, i);
        const int j_rest8 = j_t + (j_hi_2 - j_t + 1) / 8 * 8;
        const int j_hi_3 = min2(j_t + 28, i - 3);
        for (int j = j_rest8; j <= j_hi_3; j += 4) {
            double acc[4];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            double acc_2[4];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc_2[j_lane] = C[i + 1][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    acc_2[j_lane] += A[i + 1][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[i + 1][j + j_lane] = acc_2[j_lane];
            }
        }
        const int j_rest4 = j_t + (j_hi_2 - j_t + 1) / 4 * 4;
        const int j_hi_4 = min2(j_t + 30, i - 1);
        for (int j = j_rest4; j <= j_hi_4; j += 2) {
            double acc[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            double acc_2[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc_2[j_lane] = C[i + 1][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    acc_2[j_lane] += A[i + 1][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i + 1][j + j_lane] = acc_2[j_lane];
            }
        }
        const int j_rest2 = j_t + (j_hi_2 - j_t + 1) / 2 * 2;
        for (int j = j_rest2; j <= j_hi_2; j++) {
            double acc[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            double acc_2[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc_2[j_lane] = C[i + 1][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    acc_2[j_lane] += A[i + 1][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i + 1][j + j_lane] = acc_2[j_lane];
            }
        }
        for (int i_each = i; i_each < i + 2; i_each++) {
            const int j_hi_5 = min2(j_t + 31, i_each);
            for (int j = i + 1; j <= j_hi_5; j++) {
                double acc = C[i_each][j];
                for (int k = 0; k < 70; k++) {
                    acc += A[i_each][k] * A_pack_j_t[k][j - j_t];
                }
                C[i_each][j] = acc;
            }
        }
    }
    const int i_rest = j_t + (99 - j_t + 1) / 2 * 2;
    for (int i = i_rest; i < 100; i++) {
        const int j_hi = min2(j_t + 24, i - 7);
        for (int j = j_t; j <= j_hi; j += 8) {
            double acc[8];
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd simdlen(8)
                for (int j_lane = 0; j_lane < 8; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd simdlen(8)
            for (int j_lane = 0; j_lane < 8; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
        }
        const int j_hi_2 = min2(j_t + 31, i);
        const int j_rest8 = j_t + (j_hi_2 - j_t + 1) / 8 * 8;
        const int j_hi_3 = min2(j_t + 28, i - 3);
        for (int j = j_rest8; j <= j_hi_3; j += 4) {
            double acc[4];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
        }
        const int j_rest4 = j_t + (j_hi_2 - j_t + 1) / 4 * 4;
        const int j_hi_4 = min2(j_t + 30, i - 1);
        for (int j = j_rest4; j <= j_hi_4; j += 2) {
            double acc[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
        }
        const int j_rest2 = j_t + (j_hi_2 - j_t + 1) / 2 * 2;
        for (int j = j_rest2; j <= j_hi_2; j++) {
            double acc[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 70; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    acc[j_lane] += A[i][k] * A_pack_j_t[k][j + j_lane - j_t];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
        }
    }
}

static inline void j_t_body(double (*restrict C)[100], const double (*restrict A)[70], int j_t)
{
    double A_pack_j_t[70][32] __attribute__((aligned(64)));
    const int j_copy_hi = min2(j_t + 31, 99);
    transpose_double(j_copy_hi - j_t + 1, 70, &A[j_t][0], 70, &A_pack_j_t[0][0], 32);
    j_t_packed(C, A, j_t, A_pack_j_t);
}

__attribute__((noinline))
static void kernel_update(double (*restrict C)[100], const double (*restrict A)[70])
{
    #pragma omp parallel for schedule(static)
    for (int j_t = 0; j_t < 97; j_t += 32) {
        j_t_body(C, A, j_t);
    }
}

void loopnest_run(void *const args[])
{
    kernel_update(args[0], args[1]);
}
