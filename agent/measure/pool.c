/* Parallel loops of the prebuilt programs, on threads of the worker's own.
 *
 * clang turns `omp parallel for schedule(static)` into calls of the OpenMP runtime. A static
 * executable made from any machine has none, so those calls are answered here: the ones that the
 * fixed set needs, no more. What is missing (another schedule's functions, nested loops, single,
 * critical...) fails the link, that is when the wheel is built, or ends the process.
 *
 * As with the runtimes of compilers, one thread is bound to each CPU, the calling one among them,
 * and an idle thread spins for a while before it sleeps.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 20000        /* as worker.py tells other runtimes: well under a millisecond */
#define MAX_SHARED 16      /* variables that a loop shares with its surroundings */
#define SCHEDULE_STATIC 34 /* kmp_sch_static: one block of iterations a thread */
#define STACK_BYTES (8 << 20)

typedef void (*body)(int32_t *, int32_t *, void *, void *, void *, void *, void *, void *, void *,
                     void *, void *, void *, void *, void *, void *, void *, void *, void *);

static const int *cpus;
static int n_threads = 1, started;
static body task;
static void *shared[MAX_SHARED];
static atomic_uint loops_begun, threads_busy, idle_asleep, caller_asleep;
static _Thread_local int inside;

void pool_cpus(const int *usable, int count) {
    cpus = usable;
    n_threads = count;
}

static void die(const char *why) {
    fprintf(stderr, "parallel loop: %s\n", why);
    abort();
}

/* ---- waiting ------------------------------------------------------------------------------- */

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns once `word` is no longer `old`. Whoever changes it looks at `asleep` afterwards: either
 * it sees us there and wakes us, or the kernel sees the new value and does not let us sleep. */
static void await_change(atomic_uint *word, unsigned old, atomic_uint *asleep) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(word) != old) return;
        pause_briefly();
    }
    atomic_fetch_add(asleep, 1);
    while (atomic_load(word) == old) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(asleep, 1);
}

static void wake(atomic_uint *word, atomic_uint *asleep) {
    if (atomic_load(asleep)) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* ---- the threads --------------------------------------------------------------------------- */

/* More arguments than the loop's function takes do no harm: in the calling conventions of Linux
 * on x86-64 and AArch64 the caller puts them where the callee does not look, and cleans up. */
static void run_share(int32_t thread) {
    int32_t bound = 0;
    void **s = shared;
    inside = 1;
    task(&thread, &bound, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11],
         s[12], s[13], s[14], s[15]);
    inside = 0;
}

static void *serve(void *number) {
    int32_t thread = (int32_t)(intptr_t)number;
    cpu_set_t one;
    CPU_ZERO(&one);
    if (cpus[thread] >= 0 && cpus[thread] < CPU_SETSIZE) CPU_SET(cpus[thread], &one);
    (void)sched_setaffinity(0, sizeof one, &one); /* "unpinned" was said for the first CPU */
    for (unsigned seen = 0;; seen++) {
        await_change(&loops_begun, seen, &idle_asleep);
        run_share(thread);
        if (atomic_fetch_sub(&threads_busy, 1) == 1) wake(&threads_busy, &caller_asleep);
    }
    return NULL;
}

void pool_start(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    if (started) return;
    started = 1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (intptr_t i = 1; i < n_threads; i++)
        if (pthread_create(&thread, &attributes, serve, (void *)i)) die("cannot start a thread: Resource temporarily unavailable");
}

/* ---- what the compiler calls ---------------------------------------------------------------- */

void __kmpc_fork_call(void *where, int32_t count, void (*loop)(int32_t *, int32_t *, ...), ...) {
    va_list given;
    (void)where;
    if (inside) die("one lies in another");
    if (count > MAX_SHARED) die("too many shared variables");
    pool_start();
    va_start(given, loop);
    for (int32_t i = 0; i < count; i++) shared[i] = va_arg(given, void *);
    va_end(given);
    task = (body)(void *)loop;
    atomic_store(&threads_busy, (unsigned)n_threads - 1);
    atomic_fetch_add(&loops_begun, 1);
    wake(&loops_begun, &idle_asleep);
    run_share(0);
    for (unsigned left; (left = atomic_load(&threads_busy));)
        await_change(&threads_busy, left, &caller_asleep);
}

/* The bounds, all iterations at first, become those of this thread's block; the first threads
 * take one more where the iterations cannot be shared evenly. */
#define STATIC_INIT(name, type)                                                                    \
    void name(void *where, int32_t thread, int32_t schedule, int32_t *has_last, type *lower,       \
              type *upper, int32_t *stride, int32_t step, int32_t chunk) {                         \
        (void)where, (void)chunk;                                                                  \
        if (schedule != SCHEDULE_STATIC) die("its schedule is not the static one");                \
        int64_t first = *lower, span = step > 0 ? (int64_t)*upper - first : first - *upper;        \
        int64_t all = span < 0 ? 0 : span / llabs(step) + 1;                                       \
        int64_t share = all / n_threads, more = all % n_threads;                                   \
        int64_t begin = thread * share + (thread < more ? thread : more);                          \
        int64_t count = share + (thread < more);                                                   \
        *has_last = count && begin + count == all;                                                 \
        *stride = (int32_t)all;                                                                    \
        *lower = count ? (type)(first + begin * step) : (type)(*upper + (type)step);               \
        if (count) *upper = (type)(first + (begin + count - 1) * step);                            \
    }

STATIC_INIT(__kmpc_for_static_init_4, int32_t)
STATIC_INIT(__kmpc_for_static_init_4u, uint32_t)

void __kmpc_for_static_fini(void *where, int32_t thread) {
    (void)where, (void)thread;
}

/* 2: every thread adds its part to the variable itself, with an atomic instruction. */
int32_t __kmpc_reduce_nowait(void *where, int32_t thread, int32_t count, size_t size, void *data,
                             void (*combine)(void *, void *), void *lock) {
    (void)where, (void)thread, (void)count, (void)size, (void)data, (void)combine, (void)lock;
    return 2;
}

/* Called after an answer of 1 only. */
void __kmpc_end_reduce_nowait(void *where, int32_t thread, void *lock) {
    (void)where, (void)thread, (void)lock;
    die("a reduction ended that never began");
}
