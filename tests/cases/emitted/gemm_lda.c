/* BLAS-like signature: leading dimensions, alpha and beta, a temporary sum. */
#include <stddef.h>

/* Lines 7 to 13 of gemm_lda, as calibration agent 0.1.0 wrote them on 2026-11-29.
 * Schedule: parallelize i; vectorize l
 * Sizes: m = 7, n = 6, k = 5, lda = 9, ldb = 8, ldc = 10
 * Calls with other sizes, or with arrays that overlap, run the loops as they were.
 */
#include <stdint.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#ifdef __clang__
#pragma clang diagnostic ignored "-Wsource-uses-openmp"
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

static inline int gemm_lda_tuned_1_apart(
    const void *a, uintptr_t a_bytes, const void *b, uintptr_t b_bytes)
{
    return (uintptr_t)a + a_bytes <= (uintptr_t)b || (uintptr_t)b + b_bytes <= (uintptr_t)a;
}

static inline void gemm_lda_tuned_1_i_body(
    const double *restrict a,
    const double *restrict b,
    double *restrict c,
    double alpha,
    double beta,
    int i)
{
    for (int j = 0; j < 6; j++) {
        double sum = 0.0;
        #pragma omp simd reduction(+:sum)
        for (int l = 0; l < 5; l++) {
            sum += a[9 * i + l] * b[j + 8 * l];
        }
        c[10 * i + j] = alpha * sum + beta * c[10 * i + j];
    }
}

__attribute__((noinline))
static void gemm_lda_tuned_1(
    const double *restrict a,
    const double *restrict b,
    double *restrict c,
    double alpha,
    double beta)
{
    #pragma omp parallel for schedule(static)
    for (int i = 0; i < 7; i++) {
        gemm_lda_tuned_1_i_body(a, b, c, alpha, beta, i);
    }
}

#pragma GCC diagnostic pop
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

void gemm_lda(int m, int n, int k, double alpha, const double *a, int lda, const double *b, int ldb, double beta, double *c, int ldc)
{
    int i, j, l;
    if (m == 7 && n == 6 && k == 5 && lda == 9 && ldb == 8 && ldc == 10 &&
        gemm_lda_tuned_1_apart(a, 472, c, 528) &&
        gemm_lda_tuned_1_apart(b, 304, c, 528)) {
        gemm_lda_tuned_1((void *)a, (void *)b, (void *)c, alpha, beta);
    } else {
    for (i = 0; i < m; ++i)
        for (j = 0; j < n; ++j) {
            double sum = 0.0;
            for (l = 0; l < k; ++l)
                sum += a[i * lda + l] * b[l * ldb + j];
            c[i * ldc + j] = alpha * sum + beta * c[i * ldc + j];
        }
    }
}
