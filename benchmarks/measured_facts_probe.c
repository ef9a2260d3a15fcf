/* What a second of measuring reads of a machine: lines of a name and a number, in the order and
   the units of MEASURED in measured_facts.py (nanoseconds, or so many a nanosecond).

     gcc -O3 -march=native -DVECTOR_BYTES=32 -fopenmp measured_facts_probe.c -o probe -lm
     ./probe L2_BYTES L3_BYTES THREADS

   Every reading is the best of many shots of some microseconds: of those, a few fall where nobody
   else uses the core, also on a busy machine. Buffers are in large pages where the system gives
   them, so that latencies are those of the caches. */
#define _GNU_SOURCE
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define LINE 64
#define MEMORY ((size_t)512 << 20) /* far beyond most caches */
#define LANES (VECTOR_BYTES / 8)
typedef double vector __attribute__((vector_size(VECTOR_BYTES)));

static volatile double used; /* what is computed is not left out */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Nanoseconds of the fastest of so many executions of a piece of code. */
#define BEST(result, shots, ...)                   \
  double result = 1e30;                            \
  for (int shot = 0; shot < (shots); shot++) {     \
    double start = now();                          \
    __VA_ARGS__;                                   \
    double taken = now() - start;                  \
    if (taken < result) result = taken;            \
  }
#define OPAQUE(x) __asm__ volatile("" : "+x"(x))
#define OPAQUE_INT(x) __asm__ volatile("" : "+r"(x))

static void tell(const char *name, double value) { printf("%s %g\n", name, value); }

static uint64_t state = 88172645463325252ull;
static uint64_t random_below(uint64_t n) { /* xorshift (Marsaglia 2003) */
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state % n;
}

static char *pages(size_t bytes) {
  size_t whole = (bytes + (2 << 20) - 1) >> 21 << 21;
  char *buffer = aligned_alloc(2 << 20, whole);
  madvise(buffer, whole, MADV_HUGEPAGE);
  memset(buffer, 1, whole);
  return buffer;
}

/* Latency of loads that each need the one before; a random cycle through the lines of a buffer
   (of a large one, through one line in 64: all that a shot may touch is far from the last). */
static double latency(size_t bytes, int shots, int hops) {
  size_t step = bytes > ((size_t)64 << 20) ? 64 * LINE : LINE, n = bytes / step;
  char *buffer = pages(bytes);
  uint32_t *order = malloc(n * sizeof *order);
  order[0] = 0;
  for (size_t i = 1; i < n; i++) order[i] = i;
  for (size_t i = n - 1; i > 0; i--) { /* Sattolo's algorithm: one cycle */
    size_t j = random_below(i);
    uint32_t kept = order[i];
    order[i] = order[j], order[j] = kept;
  }
  for (size_t i = 0; i < n; i++)
    *(void **)(buffer + (size_t)order[i] * step) = buffer + (size_t)order[(i + 1) % n] * step;
  void **at = (void **)(buffer + (size_t)order[0] * step);
  for (size_t i = 0; i < n; i++) at = *at;
  BEST(t, shots, for (int i = 0; i < hops; i++) at = *at; OPAQUE_INT(at));
  free(order), free(buffer);
  return t / hops;
}

/* Nanoseconds a load from memory where loads do not need each other. */
static double independent_misses(int shots) {
  enum { COUNT = 2000 };
  static uint32_t at[COUNT];
  char *buffer = pages(MEMORY);
  double best = 1e30;
  for (int shot = 0; shot < shots; shot++) {
    for (int i = 0; i < COUNT; i++) at[i] = random_below(MEMORY / LINE);
    uint64_t sum = 0;
    BEST(t, 1, for (int i = 0; i < COUNT; i++) sum += buffer[(size_t)at[i] * LINE]);
    used = sum;
    best = fmin(best, t);
  }
  free(buffer);
  return best / COUNT;
}

/* Bytes a nanosecond that threads read together, each walking through a buffer of its own. */
static double bandwidth(size_t bytes, size_t chunk, int shots, int threads) {
  double best = 1e30, start = 0;
  int warm = bytes < MEMORY ? 2 * bytes / chunk : 0;
  char *buffers[threads];
  for (int t = 0; t < threads; t++) buffers[t] = pages(bytes);
#pragma omp parallel num_threads(threads)
  {
    char *buffer = buffers[omp_get_thread_num()];
    vector a = {0}, b = {0};
    for (int shot = 0; shot < warm + shots; shot++) {
      char *from = buffer + shot % (bytes / chunk) * chunk;
#pragma omp barrier
#pragma omp master
      start = now();
#pragma omp barrier
      for (size_t i = 0; i < chunk; i += 4 * sizeof a) {
        a += *(vector *)(from + i) + *(vector *)(from + i + sizeof a);
        b += *(vector *)(from + i + 2 * sizeof a) + *(vector *)(from + i + 3 * sizeof a);
      }
      OPAQUE(a); OPAQUE(b);
#pragma omp barrier
#pragma omp master
      if (shot >= warm) best = fmin(best, now() - start);
    }
    used = (a + b)[0];
  }
  for (int t = 0; t < threads; t++) free(buffers[t]);
  return (double)chunk * threads / best;
}

/* Nanoseconds until all of so many threads have done the same arithmetic. */
static double arithmetic(int threads, int shots) {
  double best = 1e30, start = 0;
#pragma omp parallel num_threads(threads)
  for (int shot = 0; shot < shots; shot++) {
    double a = 1, b = 1;
#pragma omp barrier
#pragma omp master
    start = now();
#pragma omp barrier
    for (int i = 0; i < 2000; i++) {
      a = a * 0.999 + 0.1, b = b * 0.999 + 0.1;
      OPAQUE(a); OPAQUE(b);
    }
#pragma omp barrier
#pragma omp master
    best = fmin(best, now() - start);
  }
  return best;
}

static void start_and_join(int threads) {
#pragma omp parallel num_threads(threads)
  __asm__ volatile("");
}

static void processor(void) {
  enum { N = 20000, FEW = 5000 };
  double a = 1, b = 2, c = 3, d = 4, near_one = 1.0000001;
  BEST(chain, 20, for (int i = 0; i < N; i++) { a += 1.5; OPAQUE(a); });
  tell("addition in a chain", chain / N);

  vector half, close;
  for (int k = 0; k < LANES; k++) half[k] = 0.5, close[k] = near_one;
  vector p = half, q = half, r = half, s = half, t = half, u = half, v = half, w = half;
#define ADD(x) x += half; OPAQUE(x);
  BEST(alone, 20, for (int i = 0; i < N; i++) {
    ADD(p) ADD(q) ADD(r) ADD(s) ADD(t) ADD(u) ADD(v) ADD(w)
  });
  tell("operations alone", 8.0 * N / alone);

  uint64_t e = 0, f = 0, g = 0, h = 0, k = 0, l = 0, m = 0, n = 0;
#define COUNT(x) x += i; OPAQUE_INT(x);
  BEST(beside, 20, for (int i = 0; i < N; i++) {
    COUNT(e) COUNT(f) COUNT(g) COUNT(h) COUNT(k) COUNT(l) COUNT(m) COUNT(n)
  });
  tell("operations beside others", 10.0 * N / beside); /* with the loop's own two */

  static vector data[8192 / VECTOR_BYTES] __attribute__((aligned(64)));
  int words = sizeof data / sizeof *data;
  BEST(loads, 40, for (int turn = 0; turn < 50; turn++)
    for (int i = 0; i < words; i += 4) __asm__ volatile("" ::"x"(data[i]), "x"(data[i + 1]),
                                                        "x"(data[i + 2]), "x"(data[i + 3])));
  tell("loads", 50.0 * words / loads);
  BEST(stores, 40, for (int turn = 0; turn < 50; turn++)
    for (int i = 0; i < words; i += 4) {
      data[i] = half, data[i + 1] = half, data[i + 2] = half, data[i + 3] = half;
      __asm__ volatile("" ::: "memory");
    });
  tell("stores", 50.0 * words / stores);

  BEST(division, 20, for (int i = 0; i < FEW; i++) {
    a /= near_one, b /= near_one, c /= near_one, d /= near_one;
    OPAQUE(a); OPAQUE(b); OPAQUE(c); OPAQUE(d);
  });
  tell("division", division / (4 * FEW));
#define DIVIDE(x) x /= close; OPAQUE(x);
  BEST(wide, 20, for (int i = 0; i < FEW; i++) {
    DIVIDE(p) DIVIDE(q) DIVIDE(r) DIVIDE(s)
  });
  tell("vector division", wide / (4 * FEW));
  BEST(root, 20, for (int i = 0; i < FEW; i++) {
    a = __builtin_sqrt(a), b = __builtin_sqrt(b), c = __builtin_sqrt(c), d = __builtin_sqrt(d);
    OPAQUE(a); OPAQUE(b); OPAQUE(c); OPAQUE(d);
  });
  tell("square root", root / (4 * FEW));
  BEST(power, 20, for (int i = 0; i < FEW; i++) {
    double x = 0.5 + i * 1e-4;
    OPAQUE(x);
    double y = exp(x);
    OPAQUE(y);
  });
  tell("exponential", power / FEW);

  double *strided = (double *)data;
  int stride = 7, last = sizeof data / 8 - stride * LANES, rounds = 0;
  OPAQUE_INT(stride);
  BEST(gather, 40, rounds = 0; for (int i = 0; i < last; i += LANES, rounds++) {
    vector x;
    for (int k = 0; k < LANES; k++) x[k] = strided[i + k * stride];
    half += x;
  });
  used = half[0];
  tell("gather", gather / (rounds * LANES));
  volatile double kept = 1;
  BEST(forward, 20, for (int i = 0; i < N; i++) kept = kept + 1.5);
  tell("store to load", forward / N - chain / N);

  static unsigned char coin[N];
  double taken[2];
  uint64_t sum = 0;
  for (int fair = 0; fair < 2; fair++) {
    for (int i = 0; i < N; i++) coin[i] = fair && random_below(2);
    BEST(t, 40, for (int i = 0; i < N; i++) {
      if (coin[i]) __asm__ volatile("add $1, %0" : "+r"(sum));
      else __asm__ volatile("add $3, %0" : "+r"(sum));
    });
    taken[fair] = t;
  }
  tell("mispredicted branch", 2 * (taken[1] - taken[0]) / N); /* half of them are */
  BEST(empty, 20, for (int i = 0; i < N; i++) __asm__ volatile(""));
  tell("turn of a loop", empty / N);
  used = a + b + c + d + sum + e + p[0];
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: probe L2_BYTES L3_BYTES THREADS\n"), 2;
  size_t l2 = atol(argv[1]) / 2, third = (size_t)12 << 20; /* within what is used of a level */
  int threads = atoi(argv[3]), has_l3 = atol(argv[2]) > atol(argv[1]);
  if (has_l3 && third > (size_t)atol(argv[2]) / 2) third = atol(argv[2]) / 2 >> 20 << 20;
  processor();
  tell("L2 latency", latency(l2, 60, 3000));
  if (has_l3) tell("L3 latency", latency(third, 100, 1000));
  tell("memory latency", latency(MEMORY, 100, 300));
  tell("independent misses", independent_misses(60));
  tell("L2 bandwidth", bandwidth(l2, l2, 200, 1));
  if (has_l3) tell("L3 bandwidth", bandwidth(third, 1 << 20, 200, 1));
  tell("memory bandwidth", bandwidth(MEMORY, 1 << 20, 400, 1));
  if (has_l3) tell("L3 bandwidth of all", bandwidth(third, 1 << 20, 200, threads));
  tell("memory bandwidth of all", bandwidth(MEMORY, 1 << 20, 400, threads));
  tell("speed of all threads", threads * arithmetic(1, 1000) / arithmetic(threads, 1000));
  BEST(region, 100, for (int i = 0; i < 20; i++) start_and_join(threads));
  tell("parallel region", region / 20 / 1000); /* in microseconds */
  return 0;
}
