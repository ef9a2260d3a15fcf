/* The worker: loads compiled programs, checks their results, and times them.
 *
 * One process serves one kernel: the program as written (slot 0) and its variants share the
 * same arguments. It reads one command a line on stdin, and answers each with one line
 * "@SEQUENCE WORD NUMBERS" on the descriptor named in argv[1]; stdout is the programs' own.
 * Before it enters a program it writes the slot's number to the file argv[2], so that whoever
 * finds it dead knows which program was the last to run. All policy lives in runner.py.
 *
 *   cpus C0 C1 ...                        CPUs that may be used; the main thread is pinned to C0
 *   limits ADDRESS_BYTES CPU_SECONDS      what the process may use at most; after cpus
 *   array DTYPE ELEMENTS WRITTEN RESTORED TOLERANCE ROWS COLUMNS [LEAST GREATEST]     the next
 *                          argument, an array; integers lie from LEAST to GREATEST, else 1 to 100
 *   scalar DTYPE VALUE PIVOT              the next argument, a number; as a pivot it is PIVOT
 *   seal                                  copies the pristine state, write-protects the inputs
 *   dominant                              fills the arguments again, matrices by their diagonals
 *   disturb SEED ROUNDING -> disturb SECONDS DIFFERENCE...    slot 0 once more, with the last bits of
 *                          its inputs changed (SEED 0: not), rounding near, up or down; a difference
 *                          from its results as they are for each array
 *   tolerate TOLERANCE...                 for each array, in place of what was given with it
 *   load PATH                             the next slot; in a prebuilt worker a program's name
 *   check SLOT          -> check SECONDS ERROR BAD_ARRAY CHECKSUM NOT_FINITE    one run from the
 *                          pristine state; NOT_FINITE elements of slot 0's outputs are NaN or inf
 *   dump ARRAY PATH                       the array's bytes, as they are now, into a new file
 *   tune SLOT SECONDS PARALLEL KNOWN -> tune EXECUTIONS SECONDS_PER_EXECUTION      size of one
 *                          sample; PARALLEL: 1 where the program uses all CPUs, else 0; KNOWN:
 *                          seconds of an execution by an earlier worker, 0: it is tried
 *   look                -> look LOW...          readings of every CPU in turn (see "shared cores")
 *   round SLOT ...      -> round WALL CPU STEAL BUSY SWITCHES OTHERS SAMPLE...     one sample of each:
 *                          SHOTS, and of each shot SECONDS_PER_EXECUTION MAIN INSIDE ALL SWITCHES;
 *                          WALL is less than nothing where the clock ever went back, by so much
 */
#define _GNU_SOURCE
#include <dirent.h>
#ifndef PREBUILT
#include <dlfcn.h>
#endif
#include <fcntl.h>
#include <fenv.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#if defined(_OPENMP) && !defined(PREBUILT)
#include <omp.h>
#endif
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#define PROTOCOL 3
#define MAX_ARGUMENTS 256
#define MAX_SLOTS 4096
#define MAX_CPUS 1024
#define MAX_EXECUTIONS 100000000L
#define WARM_FROM 8 /* samples of so many executions are preceded by an untimed one */
#define SHOT_S 200e-6    /* a shot is as many executions as last so long: less than most spells */
#define INSIDE_S 300e-6  /* executions longer than this are looked into every so often */
#define MAX_SHOTS 100    /* of a sample */
#define CHAIN 2000       /* dependent multiplications: some 2 microseconds */
#define ADDITIONS 1500   /* times 16, on four chains: as long */
#define SLEEP_NS 2000000 /* by which a clock that stands still is found */
#define BACK_S 1e-3      /* two CPUs' clocks may differ by less; a clock that steps does by more */
#define WAITED 0.1       /* share of a shot: waking up takes a few microseconds anyway */
#define LOOKS 300        /* readings in a row: about a millisecond */

enum dtype { F32, F64, I32, U8, I8, I16, U16, U32, I64, U64, DTYPES };
static const char *const dtype_names[DTYPES] = {"f32", "f64", "i32", "u8",  "i8",
                                                "i16", "u16", "u32", "i64", "u64"};
static const size_t dtype_sizes[DTYPES] = {4, 8, 4, 1, 1, 2, 2, 4, 8, 8};

struct array {
    enum dtype type;
    size_t elements, bytes, mapped;
    size_t rows, columns; /* of the matrices that it consists of; of a pivot, 1 and 1 */
    int written;  /* an output: compared with the base's */
    int restored; /* also read: set back before every sample, so that values do not drift */
    double tolerance, scale;
    long long least, greatest; /* of integers */
    unsigned char *map, *data, *pristine, *reference;
};

typedef void (*entry)(void *const *); /* of a program: pointers to arrays, then to scalars */

struct slot {
    entry run;
    long executions, together; /* of a sample; of a shot */
    double seconds;            /* of one */
    int parallel;
};

struct shot {
    double seconds, main, inside, all; /* of an execution; readings: see look() and shoot() */
    long switches;                     /* how often a thread of ours had to leave or await its CPU */
};

struct evidence {
    double wall, cpu;
    long long steal, busy;
    long switches;
};

static struct array arrays[MAX_ARGUMENTS];
static struct slot slots[MAX_SLOTS];
union number { double d; float f; unsigned char whole[8]; };
static union number scalars[MAX_ARGUMENTS], pivots[MAX_ARGUMENTS];
static void *arguments[2 * MAX_ARGUMENTS];
static int n_arrays, n_scalars, n_slots, n_cpus, cpus[MAX_CPUS], pinned;
static int answer_fd, marker_fd;
static unsigned long sequence;
static double went_back; /* the clock, from one look at it to the next, at most; never is right */

#ifdef PREBUILT /* a static executable with its programs inside: bundles/fixed_set/prebuild.py makes it */
struct program {
    const char *name;
    entry run;
};
extern const struct program prebuilt_programs[]; /* a null name ends it */
void pool_cpus(const int *usable, int count);    /* pool.c: the threads of parallel loops */
void pool_start(void);
#endif

/* ---- small things ------------------------------------------------------------------------ */

static void answer(const char *text) {
    dprintf(answer_fd, "@%lu %s\n", sequence, text);
}

static void refuse(const char *why) {
    dprintf(answer_fd, "@%lu error %.400s\n", sequence, why);
}

static double now(void) {
    static _Thread_local volatile double latest; /* read first: look_inside() may come in between */
    struct timespec t;
    double before = latest;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    double seconds = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (before - seconds > went_back) went_back = before - seconds;
    return latest = seconds;
}

static void mark(int32_t slot) {
    if (pwrite(marker_fd, &slot, sizeof slot, 0) != (ssize_t)sizeof slot) _exit(3);
}

/* Denormals would make a program's time depend on its values. Threads inherit the setting. */
static void flush_denormals(void) {
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1ULL << 24)));
#endif
}

static uint64_t mix(uint64_t x) { /* the finaliser of SplitMix64 (Steele et al. 2014) */
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static int parse_dtype(const char *word) {
    for (int t = 0; t < DTYPES; t++)
        if (word && !strcmp(word, dtype_names[t])) return t;
    return -1;
}

/* ---- arguments --------------------------------------------------------------------------- */

static uint64_t hash(int index, size_t j) {
    return mix(((uint64_t)(index + 1) << 44) ^ j);
}

/* Writes a whole number as element j, in two's complement cut to the type's width. */
static void set_whole(unsigned char *data, enum dtype type, size_t j, int64_t value) {
    int8_t one = (int8_t)value;
    int16_t two = (int16_t)value;
    int32_t four = (int32_t)value;
    size_t size = dtype_sizes[type];
    const void *from = size == 1 ? (void *)&one : size == 2 ? (void *)&two : (void *)&four;
    memcpy(data + j * size, size == 8 ? (void *)&value : from, size);
}

/* Element j of an integer type; of a u64 beyond 2^63 - 1 its bits. */
static int64_t get_whole(const unsigned char *data, enum dtype type, size_t j) {
    switch (type) {
    case I8: return ((const int8_t *)data)[j];
    case U8: return data[j];
    case I16: return ((const int16_t *)data)[j];
    case U16: return ((const uint16_t *)data)[j];
    case I32: return ((const int32_t *)data)[j];
    case U32: return ((const uint32_t *)data)[j];
    default: return ((const int64_t *)data)[j];
    }
}

/* Floats in [0.5, 1.5), integers mostly in 1..100: nothing to fold, no denormals, no zero divisors. */
static void fill(struct array *a, int index) {
    uint64_t count = (uint64_t)(a->greatest - a->least) + 1;
    for (size_t j = 0; j < a->elements; j++) {
        uint64_t h = hash(index, j);
        switch (a->type) {
        case F32: ((float *)a->data)[j] = 0.5f + (float)(h >> 40) * 0x1p-24f; break;
        case F64: ((double *)a->data)[j] = 0.5 + (double)(h >> 11) * 0x1p-53; break;
        default: set_whole(a->data, a->type, j, a->least + (int64_t)(h % count)); break;
        }
    }
}

/* Makes the floats of `fill` matrices that are dominated by their diagonals, in rows and columns:
 * 1.5 to 2.5 there, and elsewhere so little that a whole row or column is less. */
static void weigh(struct array *a) {
    double larger = (double)(a->rows > a->columns ? a->rows : a->columns);
    for (size_t j = 0; j < a->elements; j++) {
        size_t place = j % (a->rows * a->columns);
        int diagonal = place / a->columns == place % a->columns;
        double more = diagonal ? 1 : 0, less = diagonal ? 1 : 0.5 / larger;
        if (a->type == F32) ((float *)a->data)[j] = (float)(((float *)a->data)[j] * less + more);
        if (a->type == F64) ((double *)a->data)[j] = ((double *)a->data)[j] * less + more;
    }
}

/* Inaccessible pages on both sides; the start differs from array to array by some cache lines,
 * so that equal sizes do not put all arrays on the same cache sets. */
static int map_array(struct array *a, int index) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t shift = ((size_t)index * 17 % (page / 64)) * 64;
    size_t body = (a->bytes + shift + page - 1) / page * page;
    a->mapped = body;
    unsigned char *all = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return -1;
    a->map = all + page;
    if (mprotect(a->map, body, PROT_READ | PROT_WRITE)) return -1;
    a->data = a->map + shift;
    return 0;
}

static void add_array(char *rest) {
    char *word = strtok(rest, " ");
    int type = parse_dtype(word);
    char *count = strtok(NULL, " "), *written = strtok(NULL, " "), *restored = strtok(NULL, " ");
    char *tolerance = strtok(NULL, " "), *rows = strtok(NULL, " "), *columns = strtok(NULL, " ");
    char *least = strtok(NULL, " "), *greatest = strtok(NULL, " ");
    if (type < 0 || !columns || n_arrays == MAX_ARGUMENTS) return refuse("bad array");
    struct array *a = &arrays[n_arrays];
    a->type = (enum dtype)type;
    a->elements = strtoull(count, NULL, 10);
    a->written = atoi(written);
    a->restored = atoi(restored);
    a->tolerance = strtod(tolerance, NULL);
    a->rows = strtoull(rows, NULL, 10);
    a->columns = strtoull(columns, NULL, 10);
    a->least = greatest ? strtoll(least, NULL, 10) : 1;
    a->greatest = greatest ? strtoll(greatest, NULL, 10) : 100;
    if (a->greatest < a->least) return refuse("bad range");
    if (!a->rows || !a->columns) return refuse("bad shape");
    if (!a->elements || a->elements > SIZE_MAX / 64) return refuse("bad number of elements");
    a->bytes = a->elements * dtype_sizes[type];
    if (map_array(a, n_arrays)) return answer("nomem");
    fill(a, n_arrays);
    n_arrays++;
    answer("ok");
}

static union number number(enum dtype type, double value) {
    union number n = {0};
    switch (type) {
    case F32: n.f = (float)value; break;
    case F64: n.d = value; break;
    default: set_whole(n.whole, type, 0, (int64_t)value); break;
    }
    return n;
}

static void add_scalar(char *rest) {
    char *word = strtok(rest, " "), *value = strtok(NULL, " "), *pivot = strtok(NULL, " ");
    int type = parse_dtype(word);
    if (type < 0 || !pivot || n_scalars == MAX_ARGUMENTS) return refuse("bad scalar");
    scalars[n_scalars] = number((enum dtype)type, strtod(value, NULL));
    pivots[n_scalars++] = number((enum dtype)type, strtod(pivot, NULL));
    answer("ok");
}

static void *copy_of(const struct array *a) {
    void *copy = mmap(NULL, a->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) return NULL;
    return memcpy(copy, a->data, a->bytes);
}

static void seal(void) {
    for (int i = 0; i < n_arrays; i++) {
        struct array *a = &arrays[i];
        arguments[i] = a->data;
        if (!a->written) {
            mprotect(a->map, a->mapped, PROT_READ);
        } else if (!(a->pristine = copy_of(a)) || !(a->reference = copy_of(a))) {
            return answer("nomem");
        }
    }
    for (int i = 0; i < n_scalars; i++) arguments[n_arrays + i] = &scalars[i];
    answer("ok");
}

/* Inputs are write-protected but while this changes them; outputs get theirs from the pristine. */
static unsigned char *unlock(struct array *a) {
    if (a->written) return a->pristine;
    mprotect(a->map, a->mapped, PROT_READ | PROT_WRITE);
    return a->data;
}

static void lock(struct array *a) {
    if (!a->written) mprotect(a->map, a->mapped, PROT_READ);
}

static void dominant(void) {
    for (int i = 0; i < n_arrays; i++) {
        struct array *a = &arrays[i];
        unlock(a);
        fill(a, i);
        weigh(a);
        if (a->written) memcpy(a->pristine, a->data, a->bytes);
        lock(a);
    }
    memcpy(scalars, pivots, sizeof scalars);
    answer("ok");
}

/* Flips the last bit of about half of all floats; done twice it changes nothing. */
static void flip(uint64_t seed) {
    for (int i = 0; seed && i < n_arrays; i++) {
        struct array *a = &arrays[i];
        unsigned char *data = unlock(a);
        for (size_t j = 0; j < a->elements; j++) {
            uint64_t bit = mix(hash(i, j) ^ seed) & 1;
            if (a->type == F32) ((uint32_t *)data)[j] ^= (uint32_t)bit;
            if (a->type == F64) ((uint64_t *)data)[j] ^= bit;
        }
        lock(a);
    }
}

static void restore(int everything) {
    for (int i = 0; i < n_arrays; i++)
        if (arrays[i].written && (everything || arrays[i].restored))
            memcpy(arrays[i].data, arrays[i].pristine, arrays[i].bytes);
}

/* ---- results ----------------------------------------------------------------------------- */

static double element(const unsigned char *data, enum dtype type, size_t j) {
    switch (type) {
    case F32: return (double)((const float *)data)[j];
    case F64: return ((const double *)data)[j];
    case U64: return (double)((const uint64_t *)data)[j];
    default: return (double)get_whole(data, type, j);
    }
}

/* Returns how many elements are NaN or infinite: comparing with those shows nothing. */
static size_t keep_reference(struct array *a) {
    double sum = 0;
    size_t finite = 0, not_finite = 0;
    memcpy(a->reference, a->data, a->bytes);
    for (size_t j = 0; j < a->elements; j++) {
        double y = fabs(element(a->reference, a->type, j));
        if (y <= 1e300) sum += y, finite++;
        not_finite += !isfinite(y);
    }
    a->scale = finite && sum > 0 ? sum / (double)finite : 1;
    return not_finite;
}

/* Largest difference from the reference: for floats relative to the element or to the array's
 * mean, whichever is larger (cancellation); for integers in units. */
static double difference(const struct array *a) {
    double worst = 0;
    int is_float = a->type == F32 || a->type == F64;
    for (size_t j = 0; j < a->elements; j++) {
        double x = element(a->data, a->type, j), y = element(a->reference, a->type, j);
        if (is_float ? x == y || (isnan(x) && isnan(y))
                     : get_whole(a->data, a->type, j) == get_whole(a->reference, a->type, j))
            continue;
        double d = fabs(x - y);
        d = is_float ? d / fmax(fabs(y), a->scale) : fmax(d, 1); /* doubles hold 53 bits */
        if (isnan(d)) d = INFINITY;
        if (d > worst) worst = d;
    }
    return worst;
}

/* Order-independent sum of hashes; floats are rounded to 11 (float) or 23 (double) bits. */
static uint64_t checksum(const struct array *a, int index) {
    uint64_t sum = 0;
    for (size_t j = 0; j < a->elements; j++) {
        uint64_t bits = 0;
        if (a->type == F32) {
            uint32_t w;
            memcpy(&w, a->data + 4 * j, 4);
            bits = (w + 0x800u) & ~0xfffu;
        } else if (a->type == F64) {
            memcpy(&bits, a->data + 8 * j, 8);
            bits = (bits + (1ULL << 28)) & ~((1ULL << 29) - 1);
        } else {
            bits = (uint64_t)get_whole(a->data, a->type, j);
        }
        sum += mix(bits ^ mix(((uint64_t)index << 44) ^ j));
    }
    return sum;
}

/* ---- waiting for a CPU ----------------------------------------------------------------------
 *
 * A thread that slept at a barrier and finds its CPU taken by another process has not been switched
 * away from: it waits, and all others of a parallel loop with it. The kernel counts that time. */

static int watched[MAX_CPUS], n_watched;

static void watch_threads(void) {
    char path[320];
    while (n_watched) close(watched[--n_watched]);
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; tasks && n_watched < MAX_CPUS && (d = readdir(tasks));) {
        if (d->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", d->d_name);
        int f = open(path, O_RDONLY | O_CLOEXEC);
        if (f >= 0) watched[n_watched++] = f;
    }
    if (tasks) closedir(tasks);
}

/* Seconds, of all threads; 0 for ever where this kernel does not tell. */
static double waited(void) {
    char text[100];
    unsigned long long ns, all = 0;
    for (int i = 0; i < n_watched; i++) {
        ssize_t got = pread(watched[i], text, sizeof text - 1, 0);
        text[got > 0 ? got : 0] = 0;
        if (sscanf(text, "%*u %llu", &ns) == 1) all += ns;
    }
    return 1e-9 * (double)all;
}

/* ---- evidence of disturbance --------------------------------------------------------------- */

static int is_ours(int cpu) {
    for (int i = 0; i < n_cpus; i++)
        if (cpus[i] == cpu) return 1;
    return 0;
}

/* Ticks stolen by the hypervisor, and ticks in which our CPUs worked for anybody. */
static void read_stat(struct evidence *e) {
    char line[512];
    FILE *f = fopen("/proc/stat", "re");
    e->steal = e->busy = 0;
    if (!f) return;
    while (fgets(line, sizeof line, f) && !strncmp(line, "cpu", 3)) {
        long long v[8] = {0};
        int cpu;
        if (sscanf(line, "cpu%d %lld %lld %lld %lld %lld %lld %lld %lld", &cpu, &v[0], &v[1], &v[2],
                   &v[3], &v[4], &v[5], &v[6], &v[7]) < 5 || line[3] == ' ' || !is_ours(cpu))
            continue;
        e->steal += v[7];
        e->busy += v[0] + v[1] + v[2] + v[5] + v[6];
    }
    fclose(f);
}

static struct evidence observe(void) {
    struct evidence e;
    struct rusage u;
    read_stat(&e);
    getrusage(RUSAGE_SELF, &u);
    e.switches = u.ru_nivcsw;
    e.cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
            1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    e.wall = now();
    return e;
}

/* Threads of this process that are running or ready (OpenMP's may still spin). */
static int own_runnable(void) {
    char path[320], text[512];
    int running = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; tasks && (d = readdir(tasks));) {
        if (d->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", d->d_name);
        FILE *f = fopen(path, "re");
        if (!f) continue;
        size_t got = fread(text, 1, sizeof text - 1, f);
        text[got] = 0;
        char *close = strrchr(text, ')');
        running += close && close[1] && close[2] == 'R';
        fclose(f);
    }
    if (tasks) closedir(tasks);
    return running;
}

/* Threads of others that are running or ready on this machine now. */
static int others_runnable(void) {
    int running = 0;
    FILE *f = fopen("/proc/loadavg", "re");
    if (!f) return 0;
    if (fscanf(f, "%*s %*s %*s %d/", &running) != 1) running = 0;
    fclose(f);
    running -= own_runnable();
    return running > 0 ? running : 0;
}

/* ---- programs ------------------------------------------------------------------------------ */

#ifdef PREBUILT
/* The entry of the program called `name`; where there is none, NULL and why. */
static entry find_entry(const char *name, const char **why) {
    for (const struct program *p = prebuilt_programs; p->name; p++)
        if (!strcmp(p->name, name)) return p->run;
    *why = "no program of that name was built in";
    return NULL;
}
#else
/* dlopen takes an equal name for the same library, and numbers of descriptors come again: the slot
 * decides how many slashes there are. Without /proc it is the path, which nobody else may change. */
static void name_descriptor(char *name, size_t size, int descriptor, const char *path) {
    char slashes[65];
    memset(slashes, '/', 64);
    slashes[64] = 0;
    snprintf(name, size, "/proc%.*sself%.*sfd/%d", n_slots / 64 + 1, slashes, n_slots % 64 + 1, slashes,
             descriptor);
    if (access(name, F_OK)) snprintf(name, size, "%s", path);
}

/* The shared object at `path`, which nobody but this user and root could have written: what was
 * looked at is what is loaded. */
static void *load_checked(const char *path, const char **why) {
    char name[4096];
    struct stat found;
    void *library = NULL;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &found)) {
        *why = "the program cannot be opened";
    } else if (!S_ISREG(found.st_mode) || found.st_mode & (S_IWGRP | S_IWOTH) ||
               (found.st_uid && found.st_uid != geteuid())) {
        *why = "another user may write to the program";
    } else {
        name_descriptor(name, sizeof name, descriptor, path);
        if (!(library = dlopen(name, RTLD_NOW | RTLD_LOCAL))) *why = dlerror();
    }
    if (descriptor >= 0) close(descriptor);
    return library;
}

/* The entry of the shared object at `path`, or one of several (`path#loopnest_run_3`); where there is
 * none, NULL and why. */
static entry find_entry(char *path, const char **why) {
    entry run = NULL;
    const char *name = "loopnest_run";
    char *mark = strrchr(path, '#');
    if (mark && !strncmp(mark + 1, name, strlen(name))) {
        *mark = 0;
        name = mark + 1;
    }
    void *library = load_checked(path, why);
    void *found = library ? dlsym(library, name) : NULL;
    if (library && !found) *why = "the program has no loopnest_run";
    memcpy(&run, &found, sizeof run);
    return run;
}
#endif

static void load(char *name) {
    const char *why = "";
    if (n_slots == MAX_SLOTS) return refuse("too many programs");
    if (!(slots[n_slots].run = find_entry(name, &why))) return refuse(why);
    slots[n_slots++].executions = 1;
    answer("ok");
}

static double execute(int slot, long executions) {
    entry run = slots[slot].run;
    mark(slot);
    double start = now();
    for (long i = 0; i < executions; i++) run(arguments);
    return now() - start;
}

static int parse_slot(const char *word) {
    char *end;
    if (!word) return -1;
    long slot = strtol(word, &end, 10);
    return *end || slot < 0 || slot >= n_slots ? -1 : (int)slot;
}

static void check(char *rest) {
    int slot = parse_slot(strtok(rest, " ")), bad = -1;
    if (slot < 0) return refuse("bad slot");
    restore(1);
    double seconds = execute(slot, 1), worst = 0;
    uint64_t sum = 0;
    size_t not_finite = 0;
    for (int i = 0; i < n_arrays; i++) {
        if (!arrays[i].written) continue;
        if (slot == 0) not_finite += keep_reference(&arrays[i]);
        double d = difference(&arrays[i]);
        if (d > arrays[i].tolerance && bad < 0) bad = i;
        if (d > worst) worst = d;
        sum += checksum(&arrays[i], i);
    }
    dprintf(answer_fd, "@%lu check %.9g %.6g %d %016llx %zu\n", sequence, seconds, worst, bad,
            (unsigned long long)sum, not_finite);
}

static void disturb(char *rest) {
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD};
    static const char *const names[] = {"near", "up", "down"};
    char *word = strtok(rest, " "), *rounding = strtok(NULL, " ");
    int mode = 0;
    while (mode < 3 && rounding && strcmp(rounding, names[mode])) mode++;
    if (!rounding || mode == 3 || !n_slots) return refuse("bad disturbance");
    uint64_t seed = strtoull(word, NULL, 10);
    flip(seed);
    restore(1);
    fesetround(modes[mode]);
    double seconds = execute(0, 1);
    fesetround(FE_TONEAREST);
    flip(seed);
    dprintf(answer_fd, "@%lu disturb %.9g", sequence, seconds);
    for (int i = 0; i < n_arrays; i++)
        dprintf(answer_fd, " %.6g", arrays[i].written ? difference(&arrays[i]) : 0.0);
    dprintf(answer_fd, "\n");
}

static void tolerate(char *rest) {
    char *word = strtok(rest, " ");
    for (int i = 0; i < n_arrays; i++, word = strtok(NULL, " ")) {
        if (!word) return refuse("bad tolerances");
        arrays[i].tolerance = strtod(word, NULL);
    }
    answer("ok");
}

static void dump(char *rest) {
    char *word = strtok(rest, " "), *path = strtok(NULL, "");
    int i = word ? atoi(word) : -1;
    if (i < 0 || i >= n_arrays || !path) return refuse("bad dump");
    FILE *f = fopen(path, "wxe");
    if (!f) return refuse("cannot make the file");
    size_t written = fwrite(arrays[i].data, 1, arrays[i].bytes, f);
    if (fclose(f) || written != arrays[i].bytes) return refuse("cannot write the file");
    answer("ok");
}

/* ---- shared cores ---------------------------------------------------------------------------
 *
 * Where somebody else works on the other thread of a core, what runs here takes longer by a factor
 * of its own, and nothing that the system tells shows it. What does: many independent additions,
 * for which both threads need the same ports. A reading is their time over that of a chain of
 * dependent multiplications, which leaves nearly all of the core unused, so that it is not slowed
 * down, and which follows the clock frequency as they do. Undisturbed, a kind of core always gives
 * the same reading, to some percent; disturbed, one half as high again, or more. */

#define KEEP(x) __asm__ volatile("" : "+r"(x)) /* the compiler must not see through it */
#define ADD4 w += 1, x += 1, y += 1, z += 1; KEEP(w); KEEP(x); KEEP(y); KEEP(z);

static double reading(void) {
    uint64_t w = 1, x = 2, y = 3, z = 4, factor = 3;
    KEEP(factor); /* or the compiler makes an addition of it: one a cycle, which others slow down */
    double start = now();
    for (int i = 0; i < ADDITIONS; i++) { ADD4 ADD4 ADD4 ADD4 }
    double middle = now();
    for (int i = 0; i < CHAIN; i++) {
        w *= factor;
        KEEP(w);
    }
    return (middle - start) / (now() - middle);
}

/* The reading of the first CPU, and the worst of all where `parallel` says that they matter. */
static void look(int parallel, double *main, double *all) {
    static double readings[MAX_CPUS];
    *main = *all = readings[0] = reading();
    if (!parallel || n_cpus < 2) return;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n_cpus; i++) readings[i] = reading();
    for (int i = 0; i < n_cpus; i++) *all = fmax(*all, readings[i]);
}

/* Long executions are interrupted for readings: at their ends alone they could not be told. */
static volatile double inside_sum, inside_s;
static volatile int inside_count;

static void look_inside(int signal) {
    (void)signal;
    double start = now();
    inside_sum += reading();
    inside_count++;
    inside_s += now() - start;
}

static void interrupt_every(double seconds) {
    struct itimerval every = {{0, (long)(seconds * 1e6)}, {0, (long)(seconds * 1e6)}};
    setitimer(ITIMER_REAL, &every, NULL);
}

static long involuntary_switches(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_nivcsw;
}

static struct shot shoot(int slot, long executions) {
    struct slot *program = &slots[slot];
    int is_long = program->seconds > INSIDE_S;
    double main[2], all[2];
    inside_sum = inside_s = inside_count = 0;
    look(program->parallel, &main[0], &all[0]);
    long switches = involuntary_switches();
    double wait = waited();
    if (is_long) interrupt_every(INSIDE_S);
    double elapsed = execute(slot, executions);
    if (is_long) interrupt_every(0);
    wait = waited() - wait;
    switches = involuntary_switches() - switches;
    look(program->parallel, &main[1], &all[1]);
    return (struct shot){
        .seconds = (elapsed - inside_s) / (double)executions,
        .main = fmax(main[0], main[1]),
        .inside = inside_count ? inside_sum / inside_count : 0,
        .all = fmax(all[0], all[1]),
        .switches = switches + (wait > WAITED * elapsed),
    };
}

static int by_value(const void *p, const void *q) {
    double x = *(const double *)p, y = *(const double *)q;
    return (x > y) - (x < y);
}

/* Of every CPU: the lowest tenth of some readings (where it is undisturbed now and then, that is
 * what it gives undisturbed; lower ones had an interrupt in the chain). */
static void look_at_all(void) {
    cpu_set_t one, before;
    double found[LOOKS];
    if (sched_getaffinity(0, sizeof before, &before)) { /* refused: it was pinned to the first */
        CPU_ZERO(&before);
        if (cpus[0] >= 0 && cpus[0] < CPU_SETSIZE) CPU_SET(cpus[0], &before);
    }
    char *line = NULL;
    size_t length = 0;
    FILE *f = open_memstream(&line, &length);
    if (!f) _exit(4);
    for (int i = 0; i < n_cpus; i++) {
        CPU_ZERO(&one);
        if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE) CPU_SET(cpus[i], &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        for (int k = 0; k < LOOKS; k++) found[k] = reading();
        qsort(found, LOOKS, sizeof *found, by_value);
        fprintf(f, " %.4g", found[LOOKS / 10]);
    }
    (void)sched_setaffinity(0, sizeof before, &before);
    fclose(f);
    dprintf(answer_fd, "@%lu look%s\n", sequence, line);
    free(line);
}

/* ---- timing -------------------------------------------------------------------------------- */

static void tune(char *rest) {
    int slot = parse_slot(strtok(rest, " "));
    char *word = strtok(NULL, " "), *parallel = strtok(NULL, " "), *known = strtok(NULL, " ");
    if (slot < 0 || !known) return refuse("bad slot");
    double target = strtod(word, NULL), one = strtod(known, NULL), elapsed;
    long n = 1;
    restore(0);
    if (one > 0) {
        if (one < target) n = (long)fmin(target / one, MAX_EXECUTIONS - 1.0) + 1;
        elapsed = one * (double)n;
    } else {
        while ((elapsed = execute(slot, n)) < target && n < MAX_EXECUTIONS) {
            double more = elapsed < target / 16 ? 8.0 : 1.1 * target / elapsed;
            n = (long)fmin(more * (double)n, MAX_EXECUTIONS - 1.0) + 1;
        }
    }
    struct slot *program = &slots[slot];
    program->executions = n;
    program->seconds = elapsed / (double)n;
    program->parallel = atoi(parallel);
    double least = fmax(SHOT_S, target / MAX_SHOTS);
    program->together = program->seconds > 0 ? (long)(least / program->seconds) + 1 : n;
    if (program->together > n) program->together = n;
    dprintf(answer_fd, "@%lu tune %ld %.9g\n", sequence, n, program->seconds);
}

/* As many shots as hold the sample's executions, without a break between them. */
static void sample(int slot, FILE *f) {
    static struct shot shots[MAX_SHOTS];
    struct slot *program = &slots[slot];
    int n = 0;
    restore(0);
    if (program->executions >= WARM_FROM) execute(slot, 1);
    for (long left = program->executions; left > 0 && n < MAX_SHOTS; left -= program->together)
        shots[n++] = shoot(slot, left < program->together ? left : program->together);
    fprintf(f, " %d", n);
    for (int i = 0; i < n; i++)
        fprintf(f, " %.6g %.4g %.4g %.4g %ld", shots[i].seconds, shots[i].main, shots[i].inside,
                shots[i].all, shots[i].switches);
}

static void one_round(char *rest) {
    static int order[MAX_SLOTS];
    int n = 0, slot;
    for (char *word = strtok(rest, " "); word; word = strtok(NULL, " ")) {
        if (n == MAX_SLOTS || (slot = parse_slot(word)) < 0) return refuse("bad slot");
        order[n++] = slot;
    }
    char *line = NULL;
    size_t length = 0;
    FILE *f = open_memstream(&line, &length);
    if (!f) _exit(4);
    watch_threads();
    struct evidence before = observe();
    for (int i = 0; i < n; i++) sample(order[i], f);
    struct evidence after = observe();
    int others = others_runnable();
    fputc('\n', f);
    fclose(f);
    dprintf(answer_fd, "@%lu round %.9g %.6f %lld %lld %ld %d%s", sequence,
            went_back > BACK_S ? -went_back : after.wall - before.wall, after.cpu - before.cpu,
            after.steal - before.steal, after.busy - before.busy, after.switches - before.switches,
            others, line);
    free(line);
}

/* ---- the process --------------------------------------------------------------------------- */

static void set_cpus(char *rest) {
    cpu_set_t one;
    n_cpus = 0;
    for (char *word = strtok(rest, " "); word && n_cpus < MAX_CPUS; word = strtok(NULL, " "))
        cpus[n_cpus++] = atoi(word);
    if (!n_cpus) return refuse("no CPU");
#if defined(_OPENMP) && !defined(PREBUILT)
    (void)omp_get_max_threads(); /* the runtime reads the allowed CPUs before we narrow them */
#endif
#ifdef PREBUILT
    pool_cpus(cpus, n_cpus);
#endif
    CPU_ZERO(&one);
    if (cpus[0] >= 0 && cpus[0] < CPU_SETSIZE) CPU_SET(cpus[0], &one);
    pinned = !sched_setaffinity(0, sizeof one, &one);
    answer(pinned ? "ok" : "unpinned");
}

/* No process and no thread from here on: programs run on the threads that are there already, since
 * the runtimes keep them. (What the kernel counts is all of a user's, so no other number would do;
 * root is exempt.) */
static void forbid_processes(void) {
    struct rlimit none = {0, 0};
#if defined(PREBUILT)
    pool_start();
#elif defined(_OPENMP)
#pragma omp parallel
    flush_denormals();
#endif
    setrlimit(RLIMIT_NPROC, &none);
}

static void set_limits(char *rest) {
    char *address = strtok(rest, " "), *cpu = strtok(NULL, " ");
    if (!cpu) return refuse("bad limits");
    struct rlimit space = {strtoull(address, NULL, 10), strtoull(address, NULL, 10)};
    struct rlimit seconds = {strtoull(cpu, NULL, 10), strtoull(cpu, NULL, 10) + 1};
    struct rlimit none = {0, 0}, written = {65536, 65536}, files = {64, 64};
    if (pinned) forbid_processes(); /* where threads cannot be bound, some cannot be started either */
    setrlimit(RLIMIT_AS, &space);
    setrlimit(RLIMIT_CPU, &seconds);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &written); /* what a program may print into our stderr */
    answer("ok");
}

/* What the clock says of a sleep. */
static void look_at_clock(void) {
    struct timespec left = {0, SLEEP_NS};
    double start = now();
    while (nanosleep(&left, &left)) {} /* interrupted: what is left */
    char text[64];
    snprintf(text, sizeof text, "clock %.9g", now() - start);
    answer(text);
}

static void obey(char *line) {
    char *space = strchr(line, ' ');
    char *rest = space ? space + 1 : line + strlen(line);
    if (space) *space = 0;
    if (!strcmp(line, "clock")) look_at_clock();
    else if (!strcmp(line, "cpus")) set_cpus(rest);
    else if (!strcmp(line, "limits")) set_limits(rest);
    else if (!strcmp(line, "array")) add_array(rest);
    else if (!strcmp(line, "scalar")) add_scalar(rest);
    else if (!strcmp(line, "seal")) seal();
    else if (!strcmp(line, "dominant")) dominant();
    else if (!strcmp(line, "disturb")) disturb(rest);
    else if (!strcmp(line, "tolerate")) tolerate(rest);
    else if (!strcmp(line, "load")) load(rest);
    else if (!strcmp(line, "check")) check(rest);
    else if (!strcmp(line, "dump")) dump(rest);
    else if (!strcmp(line, "tune")) tune(rest);
    else if (!strcmp(line, "look")) look_at_all();
    else if (!strcmp(line, "round")) one_round(rest);
    else refuse("unknown command");
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the agent */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    answer_fd = atoi(argv[1]);
    marker_fd = atoi(argv[2]);
    signal(SIGXFSZ, SIG_IGN);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = look_inside, .sa_flags = SA_RESTART}, NULL);
    flush_denormals();
    /* A program that reads stdin must not eat our commands. */
    FILE *commands = fdopen(fcntl(0, F_DUPFD_CLOEXEC, 3), "r");
    int null = open("/dev/null", O_RDWR);
    if (!commands || null < 0 || dup2(null, 0) < 0) return 2;
    mark(-1);
    dprintf(answer_fd, "@0 ready %d %ld\n", PROTOCOL, sysconf(_SC_CLK_TCK));
    char *line = NULL;
    size_t size = 0;
    for (ssize_t got; (got = getline(&line, &size, commands)) > 0;) {
        if (line[got - 1] == '\n') line[got - 1] = 0;
        sequence++;
        obey(line);
    }
    return 0;
}
