/* Preloaded into a process: counts what it changes on the disk below one directory, and kills it
   (SIGKILL, as a power cut does) at the n-th change; a write is torn in the middle.
   crash_arm(directory, n) starts the count; n = 0 only counts; crash_count() tells. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX];
static long wanted, seen;
static int armed;

void crash_arm(const char *directory, long n)
{
    snprintf(below, sizeof below, "%s", directory);
    wanted = n;
    seen = 0;
    armed = 1;
}

long crash_count(void) { return seen; }

static int inside_fd(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return strncmp(path, below, strlen(below)) == 0;
}

static int inside(int dir, const char *path)
{
    if (path[0] == '/')
        return strncmp(path, below, strlen(below)) == 0;
    return dir != AT_FDCWD && inside_fd(dir);
}

/* True if this change is the one that does not happen. */
static int now(int is_inside) { return armed && is_inside && ++seen == wanted; }

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n)
{
    if (armed && now(inside_fd(fd))) {
        REAL(write)(fd, data, n / 2);
        die();
    }
    return REAL(write)(fd, data, n);
}

#define PWRITE(name, offset_t)                                    \
    ssize_t name(int fd, const void *data, size_t n, offset_t at) \
    {                                                             \
        if (armed && now(inside_fd(fd))) {                        \
            REAL(name)(fd, data, n / 2, at);                      \
            die();                                                \
        }                                                         \
        return REAL(name)(fd, data, n, at);                       \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define ON_FD(type, name, parameters, arguments) \
    type name parameters                         \
    {                                            \
        if (armed && now(inside_fd(fd)))         \
            die();                               \
        return REAL(name) arguments;             \
    }
ON_FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n))
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n))
ON_FD(int, fchmod, (int fd, mode_t m), (fd, m))

#define ON_PATH(name, parameters, arguments)            \
    int name parameters                                 \
    {                                                   \
        if (armed && now(inside(AT_FDCWD, path)))       \
            die();                                      \
        return REAL(name) arguments;                    \
    }
ON_PATH(rename, (const char *path, const char *to), (path, to))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(mkdir, (const char *path, mode_t m), (path, m))
ON_PATH(chmod, (const char *path, mode_t m), (path, m))

int symlink(const char *target, const char *path)
{
    if (armed && now(inside(AT_FDCWD, path)))
        die();
    return REAL(symlink)(target, path);
}

int renameat(int from, const char *path, int dir, const char *to)
{
    if (armed && now(inside(dir, to)))
        die();
    return REAL(renameat)(from, path, dir, to);
}

int unlinkat(int dir, const char *path, int flags)
{
    if (armed && now(inside(dir, path)))
        die();
    return REAL(unlinkat)(dir, path, flags);
}
