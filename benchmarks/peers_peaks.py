"""What this machine can do at most: multiply-adds a second, and bytes a second of memory.

    found = peaks(192_000_000)  # about 3 s, all threads
    found.gflops, found.read, found.triad  # in double precision; GB/s

`gflops`: independent multiply-adds in registers, with the widest vectors and those of half the
width. `read`: a sum over so many bytes. `triad`: STREAM's ``a[i] = b[i] + s * c[i]`` over so many
in all three arrays, with plain stores and with streaming ones; what a cache reads of ``a`` before
it is written is not counted. Each figure is the best of some rounds. Before every round one thread
writes the memory, as the harness does before every call of a function: on virtual machines with a
large cache that costs a fifth of what can be had where nothing was written.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

COMMAND = ("gcc", "-std=gnu11", "-O3", "-march=native", "-fopenmp")
LIMIT_S = 60.0
PROBE = r"""
#include <omp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif
#ifdef __AVX512F__
#define WIDE 64
#else
#define WIDE 32
#endif
#define CHAINS 12  /* that do not wait for each other */
#define ROUNDS 20

typedef double wide_t __attribute__((vector_size(WIDE)));
typedef double half_t __attribute__((vector_size(WIDE / 2)));
static volatile double sink;

/* Multiply-adds of one thread: seconds. */
#define MULTIPLY_ADDS(vector_t, steps)                                         \
    static double vector_t##_s(void)                                           \
    {                                                                          \
        vector_t sum[CHAINS], all = { 0 };                                     \
        vector_t by = (vector_t) { 0 } + 0.999999, more = by * 1e-3;           \
        for (int c = 0; c < CHAINS; c++)                                       \
            sum[c] = by + c;                                                   \
        double began = omp_get_wtime();                                        \
        for (int n = 0; n < (steps); n++) {                                    \
            _Pragma("GCC unroll 12") for (int c = 0; c < CHAINS; c++)          \
                sum[c] = sum[c] * by + more;                                   \
        }                                                                      \
        for (int c = 0; c < CHAINS; c++)                                       \
            all += sum[c];                                                     \
        double took = omp_get_wtime() - began;                                 \
        sink = all[0];                                                         \
        return took;                                                           \
    }
#define STEPS (1 << 20)
MULTIPLY_ADDS(wide_t, STEPS)
MULTIPLY_ADDS(half_t, STEPS)

static double gflops(double (*seconds)(void), size_t bytes)
{
    double least = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double took = 0;
#pragma omp parallel reduction(max : took)
        {
#pragma omp barrier
            took = seconds();
        }
        least = took < least ? took : least;
    }
    double each = 2.0 * CHAINS * STEPS * (bytes / sizeof(double));
    return each * omp_get_max_threads() / least * 1e-9;
}

static double read_s(const double *from, size_t count)
{
    double all = 0, began = omp_get_wtime();
#pragma omp parallel reduction(+ : all)
    {
        wide_t sum[8] = { { 0 } };
        const wide_t *wide = (const wide_t *)from;
#pragma omp for schedule(static)
        for (size_t i = 0; i < count / (WIDE / 8) / 8; i++) {
#pragma GCC unroll 8
            for (int c = 0; c < 8; c++)
                sum[c] += wide[8 * i + c];
        }
        wide_t total = ((sum[0] + sum[1]) + (sum[2] + sum[3]))
                       + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
        for (size_t lane = 0; lane < WIDE / sizeof(double); lane++)
            all += total[lane];
    }
    sink = all;
    return omp_get_wtime() - began;
}

static double triad_s(double *a, const double *b, const double *c, size_t count)
{
    double began = omp_get_wtime();
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i++)
        a[i] = b[i] + 3.0 * c[i];
    return omp_get_wtime() - began;
}

static double streamed_s(double *a, const double *b, const double *c, size_t count)
{
#ifdef __AVX__
    double began = omp_get_wtime();
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < count; i += 4)
            _mm256_stream_pd(a + i, _mm256_load_pd(b + i) + 3.0 * _mm256_load_pd(c + i));
        _mm_sfence();
    }
    return omp_get_wtime() - began;
#else
    return triad_s(a, b, c, count);
#endif
}

static double less(double one, double two) { return one < two ? one : two; }

int main(int count, char **words)
{
    size_t all = count > 1 ? strtoull(words[1], NULL, 10) / 8 / 192 * 192 : 0, third = all / 3;
    double *memory = aligned_alloc(64, all * 8), *b = memory + third, *c = b + third;
    double *kept = aligned_alloc(64, all * 8);
    if (!all || !memory || !kept)
        return 1;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < all; i++)
        memory[i] = kept[i] = 1.0;
    double read = 1e9, triad = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(memory, kept, all * 8);
        read = less(read, read_s(memory, all));
        memcpy(memory, kept, all * 8);
        triad = less(triad, triad_s(memory, b, c, third));
        memcpy(memory, kept, all * 8);
        triad = less(triad, streamed_s(memory, b, c, third));
    }
    double one = gflops(wide_t_s, WIDE), two = gflops(half_t_s, WIDE / 2);
    printf("{\"gflops\": %.3f, \"read\": %.3f, \"triad\": %.3f}\n", one > two ? one : two,
           all * 8 / read * 1e-9, all * 8 / triad * 1e-9);
    return 0;
}
"""


@dataclass(frozen=True)
class Peaks:
    """Of all threads: 10^9 operations a second in double precision, and GB/s."""

    gflops: float
    read: float
    triad: float

    def most(self, other: Peaks) -> Peaks:
        """The higher of each of two: a machine was busy in one, or it was not."""
        pairs = ((getattr(x, n) for x in (self, other)) for n in ("gflops", "read", "triad"))
        return Peaks(*(max(pair) for pair in pairs))


def peaks(size: int) -> Peaks:
    """Measured with ``size`` bytes of memory in use.

    Raises:
        CalledProcessError, TimeoutExpired: the probe does not compile, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="peaks-") as made:
        source, program = Path(made, "probe.c"), Path(made, "probe")
        source.write_text(PROBE)
        subprocess.run([*COMMAND, source, "-o", program], check=True, timeout=LIMIT_S)
        asked = [str(program), str(size)]
        ran = subprocess.run(asked, check=True, timeout=LIMIT_S, capture_output=True, text=True)
    return Peaks(**json.loads(ran.stdout))
