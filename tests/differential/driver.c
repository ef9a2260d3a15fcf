/* Runs the versions of functions, the first of each as it was written, on the same inputs, and
 * tells what the others leave in memory that the first does not. Before this text stand the types
 * (TYPES in compare.py), near_of[], SEEDS, VERSIONS, versions[], and for each test arrays_of[] and count_of[].
 *
 * Arguments: the version to begin with, then those to leave out.
 * It prints "run TEST VERSION" before each run, "differs TEST VERSION array ARRAY byte BYTE" after.
 */
#ifdef __SANITIZE_ADDRESS__
#define GUARD 0 /* the sanitizer knows where memory ends */
#else
#define GUARD 64
#endif
#define MOST 64

static uint64_t random_state;

static uint64_t random_bits(void)
{
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void put(char *at, const struct memory_field *field)
{
    double part = (double)(random_bits() >> 11) * 0x1p-53;
    double real = field->low + (field->high - field->low) * part;
    float single = (float)real;
    double span = field->high - field->low + 1;
    int64_t whole = (int64_t)field->low + (int64_t)(part * span);
    switch (field->kind) {
    case F32: memcpy(at, &single, 4); break;
    case F64: memcpy(at, &real, 8); break;
    case I8: case U8: memcpy(at, &whole, 1); break;
    case I16: case U16: memcpy(at, &whole, 2); break;
    case I32: case U32: memcpy(at, &whole, 4); break;
    default: memcpy(at, &whole, 8);
    }
}

static size_t size_of(const struct memory_array *array)
{
    return array->elements * array->stride + 2 * GUARD;
}

static void fill(char *memory, const struct memory_array *array)
{
    memset(memory, 0xa5, size_of(array));
    for (size_t e = 0; e < array->elements; e++)
        for (int f = 0; f < array->fields; f++)
            put(memory + GUARD + e * array->stride + array->field[f].offset, &array->field[f]);
}

static double value_of(const char *at, int kind)
{
    float single;
    double real;
    memcpy(&single, at, 4);
    if (kind == F32)
        return single;
    memcpy(&real, at, 8);
    return real;
}

/* Equal numbers, or two that are none; near ones where sums may be in another order: no nearer than
 * the coarsest floats of the version are, of which all its others may be made. */
static int same_value(const char *a, const char *b, int kind, const struct function_version *version)
{
    double x = value_of(a, kind), y = value_of(b, kind);
    if (x == y || (isnan(x) && isnan(y)))
        return 1;
    double tolerance = fmax(near_of[kind], near_of[version->coarsest]);
    return !version->exact && fabs(x - y) <= tolerance * fmax(1, fmax(fabs(x), fabs(y)));
}

static int same_field(const char *a, const char *b, const struct memory_field *field,
                      const struct function_version *version)
{
    int kind = field->kind;
    if (kind == F32 || kind == F64)
        return same_value(a + field->offset, b + field->offset, kind, version);
    return !memcmp(a + field->offset, b + field->offset, (size_t)1 << (kind - I8) / 2);
}

/* The first byte that differs; -1: none does. Bytes that no field covers must be the same. */
static long difference(const char *a, const char *b, const struct memory_array *array,
                       const struct function_version *version)
{
    if (!memcmp(a, b, size_of(array)))
        return -1;
    for (size_t e = 0; e < array->elements; e++)
        for (int f = 0; f < array->fields; f++) {
            size_t at = GUARD + e * array->stride;
            if (!same_field(a + at, b + at, &array->field[f], version))
                return (long)(at + array->field[f].offset) - GUARD;
        }
    size_t end = GUARD + array->elements * array->stride;
    if (memcmp(a, b, GUARD) || memcmp(a + end, b + end, GUARD))
        return (long)(array->elements * array->stride);
    return -1;
}

int main(int count, char **words)
{
    static char *wanted[SEEDS][MOST];
    int skip = 2;
    for (int v = count > 1 ? atoi(words[1]) : 0; v < VERSIONS; v++) {
        const struct function_version *version = &versions[v];
        int test = version->test;
        if (skip < count && atoi(words[skip]) == v) {
            skip++;
            continue;
        }
        printf("run %d %d\n", test, version->number);
        fflush(stdout);
        for (int seed = 0; seed < SEEDS; seed++) {
            char *memory[MOST];
            void *passed[MOST];
            random_state = (uint64_t)(seed + 1) * 77777;
            for (int a = 0; a < count_of[test]; a++) {
                memory[a] = malloc(size_of(&arrays_of[test][a]) + !size_of(&arrays_of[test][a]));
                fill(memory[a], &arrays_of[test][a]);
                passed[a] = memory[a] + GUARD;
            }
            version->call(passed);
            for (int a = 0; a < count_of[test]; a++) {
                const struct memory_array *array = &arrays_of[test][a];
                if (version->number == 0) {
                    free(wanted[seed][a]);
                    wanted[seed][a] = memory[a];
                    continue;
                }
                long byte = difference(memory[a], wanted[seed][a], array, version);
                if (byte >= 0)
                    printf("differs %d %d array %d byte %ld\n", test, version->number, a, byte);
                free(memory[a]);
            }
        }
    }
    return 0;
}
