#include <math.h>
#include <stdint.h>

static inline void i_body(double (*restrict C)[70], const double (*restrict A)[70], int i)
{
    for (int i_each = i; i_each < i + 3; i_each++) {
        for (int j = i_each; j <= i; j += 2) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i_each][j + j_lane] = 0.0;
            }
            double acc[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc[j_lane] = C[i_each][j + j_lane];
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    acc[j_lane] += A[k][i_each] * A[k][j + j_lane];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i_each][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[j + j_lane][i_each] = C[i_each][j + j_lane];
            }
        }
        const int j_rest2 = i_each + (i + 1 - i_each + 1) / 2 * 2;
        for (int j = j_rest2; j < i + 2; j++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i_each][j + j_lane] = 0.0;
            }
            double acc[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc[j_lane] = C[i_each][j + j_lane];
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    acc[j_lane] += A[k][i_each] * A[k][j + j_lane];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i_each][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[j + j_lane][i_each] = C[i_each][j + j_lane];
            }
        }
    }
    for (int j = i + 2; j < 67; j += 4) {
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            C[i][j + j_lane] = 0.0;
            C[i + 1][j + j_lane] = 0.0;
            C[i + 2][j + j_lane] = 0.0;
        }
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
        double acc_3[4];
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            acc_3[j_lane] = C[i + 2][j + j_lane];
        }
        for (int k = 0; k < 100; k++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc[j_lane] += A[k][i] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc_2[j_lane] += A[k][i + 1] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc_3[j_lane] += A[k][i + 2] * A[k][j + j_lane];
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
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            C[i + 2][j + j_lane] = acc_3[j_lane];
        }
        #pragma omp simd
        for (int j_lane = 0; j_lane < 4; j_lane++) {
            C[j + j_lane][i] = C[i][j + j_lane];
            C[j + j_lane][i + 1] = C[i + 1][j + j_lane];
            C[j + j_lane][i + 2] = C[i + 2][j + j_lane];
        }
    }
    const int j_rest4 = i + 2 + (69 - (i + 2) + 1) / 4 * 4;
    for (int j = j_rest4; j < 69; j += 2) {
        #pragma omp simd
        for (int j_lane = 0; j_lane < 2; j_lane++) {
            C[i][j + j_lane] = 0.0;
            C[i + 1][j + j_lane] = 0.0;
            C[i + 2][j + j_lane] = 0.0;
        }
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
        double acc_3[2];
        #pragma omp simd
        for (int j_lane = 0; j_lane < 2; j_lane++) {
            acc_3[j_lane] = C[i + 2][j + j_lane];
        }
        for (int k = 0; k < 100; k++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc[j_lane] += A[k][i] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc_2[j_lane] += A[k][i + 1] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc_3[j_lane] += A[k][i + 2] * A[k][j + j_lane];
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
        #pragma omp simd
        for (int j_lane = 0; j_lane < 2; j_lane++) {
            C[i + 2][j + j_lane] = acc_3[j_lane];
        }
        #pragma omp simd
        for (int j_lane = 0; j_lane < 2; j_lane++) {
            C[j + j_lane][i] = C[i][j + j_lane];
            C[j + j_lane][i + 1] = C[i + 1][j + j_lane];
            C[j + j_lane][i + 2] = C[i + 2][j + j_lane];
        }
    }
    const int j_rest2_2 = i + 2 + (69 - (i + 2) + 1) / 2 * 2;
    for (int j = j_rest2_2; j < 70; j++) {
        #pragma omp simd
        for (int j_lane = 0; j_lane < 1; j_lane++) {
            C[i][j + j_lane] = 0.0;
            C[i + 1][j + j_lane] = 0.0;
            C[i + 2][j + j_lane] = 0.0;
        }
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
        double acc_3[1];
        #pragma omp simd
        for (int j_lane = 0; j_lane < 1; j_lane++) {
            acc_3[j_lane] = C[i + 2][j + j_lane];
        }
        for (int k = 0; k < 100; k++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc[j_lane] += A[k][i] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc_2[j_lane] += A[k][i + 1] * A[k][j + j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc_3[j_lane] += A[k][i + 2] * A[k][j + j_lane];
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
        #pragma omp simd
        for (int j_lane = 0; j_lane < 1; j_lane++) {
            C[i + 2][j + j_lane] = acc_3[j_lane];
        }
        #pragma omp simd
        for (int j_lane = 0; j_lane < 1; j_lane++) {
            C[j + j_lane][i] = C[i][j + j_lane];
            C[j + j_lane][i + 1] = C[i + 1][j + j_lane];
            C[j + j_lane][i + 2] = C[i + 2][j + j_lane];
        }
    }
}

__attribute__((noinline))
static void kernel_covariance(double (*restrict C)[70], const double (*restrict A)[70])
{
    #pragma omp parallel for schedule(static)
    for (int i = 0; i < 68; i += 3) {
        i_body(C, A, i);
    }
    for (int i = 69; i < 70; i++) {
        for (int j = i; j < 67; j += 4) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[i][j + j_lane] = 0.0;
            }
            double acc[4];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 4; j_lane++) {
                    acc[j_lane] += A[k][i] * A[k][j + j_lane];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 4; j_lane++) {
                C[j + j_lane][i] = C[i][j + j_lane];
            }
        }
        const int j_rest4_2 = i + (69 - i + 1) / 4 * 4;
        for (int j = j_rest4_2; j < 69; j += 2) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i][j + j_lane] = 0.0;
            }
            double acc[2];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 2; j_lane++) {
                    acc[j_lane] += A[k][i] * A[k][j + j_lane];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 2; j_lane++) {
                C[j + j_lane][i] = C[i][j + j_lane];
            }
        }
        const int j_rest2_3 = i + (69 - i + 1) / 2 * 2;
        for (int j = j_rest2_3; j < 70; j++) {
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i][j + j_lane] = 0.0;
            }
            double acc[1];
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                acc[j_lane] = C[i][j + j_lane];
            }
            for (int k = 0; k < 100; k++) {
                #pragma omp simd
                for (int j_lane = 0; j_lane < 1; j_lane++) {
                    acc[j_lane] += A[k][i] * A[k][j + j_lane];
                }
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[i][j + j_lane] = acc[j_lane];
            }
            #pragma omp simd
            for (int j_lane = 0; j_lane < 1; j_lane++) {
                C[j + j_lane][i] = C[i][j + j_lane];
            }
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_covariance(args[0], args[1]);
}
