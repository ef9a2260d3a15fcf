#include <math.h>
#include <stdint.h>

static inline int min2(int a, int b)
{
    return a < b ? a : b;
}

static inline void stream_fence(void)
{
#if defined(__SSE2__)
    __builtin_ia32_sfence();
#endif
}

static inline void stream_line(void *to, const void *from)
{
#if defined(__clang__) && defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
    typedef long long part __attribute__((vector_size(16), may_alias));
    for (int n = 0; n < 4; n++) {
        __builtin_nontemporal_store(((const part *)from)[n], (part *)to + n);
    }
    return;
#endif
#elif defined(__GNUC__) && defined(__AVX__)
    typedef long long part __attribute__((vector_size(32)));
    typedef part any __attribute__((may_alias));
    __builtin_ia32_movntdq256((part *)to, ((const any *)from)[0]);
    __builtin_ia32_movntdq256((part *)to + 1, ((const any *)from)[1]);
    return;
#elif defined(__GNUC__) && defined(__SSE2__)
    typedef long long part __attribute__((vector_size(16)));
    typedef part any __attribute__((may_alias));
    for (int n = 0; n < 4; n++) {
        __builtin_ia32_movntdq((part *)to + n, ((const any *)from)[n]);
    }
    return;
#endif
    __builtin_memcpy(to, from, 64);
}

static inline void j_body(
    float (*restrict B)[70][100],
    const float (*restrict A)[100][70],
    int p,
    int j)
{
    const int i_first = (int)(-(uintptr_t)&B[p][j][0] % 64 / 4);
    const int i_hi = min2(i_first - 1, 99);
    #pragma omp simd
    for (int i = 0; i <= i_hi; i++) {
        B[p][j][i] = A[p][i][j];
    }
    for (int i = i_first; i < 85; i += 16) {
        float B_line[16] __attribute__((aligned(64)));
        #pragma omp simd simdlen(16)
        for (int i_lane = 0; i_lane < 16; i_lane++) {
            B_line[i_lane] = A[p][i + i_lane][j];
        }
        stream_line(&B[p][j][i], B_line);
    }
    const int i_rest = i_first + (99 - i_first + 1) / 16 * 16;
    #pragma omp simd
    for (int i = i_rest; i < 100; i++) {
        B[p][j][i] = A[p][i][j];
    }
}

__attribute__((noinline))
static void kernel_planes(float (*restrict B)[70][100], const float (*restrict A)[100][70])
{
    for (int p = 0; p < 3; p++) {
        #pragma omp parallel
        {
            #pragma omp for schedule(static) nowait
            for (int j = 0; j < 70; j++) {
                j_body(B, A, p, j);
            }
            stream_fence();
        }
    }
}

void loopnest_run(void *const args[])
{
    kernel_planes(args[0], args[1]);
}
