/*
 * A shim that stands between a program and the file system, loaded by LD_PRELOAD into the child of a test (see
 * src/provision/store/tests/shim.rs). It numbers every call that opens, changes or syncs something below one directory, writes each into
 * a trace, and at call number N does what the test asks for:
 *
 *   ONYX_SHIM_BELOW   the directory; everything else is passed on unseen
 *   ONYX_SHIM_TRACE   the trace, a file elsewhere: a line for each call, "NUMBER NAME PATH [SECOND PATH]", written before the call
 *   ONYX_SHIM_AT      N, counted from 1; 0 for never
 *   ONYX_SHIM_DO      before   SIGKILL instead of the call
 *                     after    SIGKILL when the call has been made
 *                     half     as `after`, but a write writes only half
 *                     eio      the call fails with EIO
 *                     eio+     and so does every later one
 *                     enospc+  the call and every later one fail with ENOSPC, if they need room; what removes or reads does not
 *
 * It needs a dynamic C library: a static program or one that makes system calls by itself is not seen. Rust's standard library goes
 * through the C library for all of these.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The call needs room on the disk. */
enum { ROOM = 1 };

static long count;
static long at;
static const char *below, *action;
static int trace = -2;

static void begin(void)
{
    if (trace != -2)
        return;
    const char *number = getenv("ONYX_SHIM_AT"), *file = getenv("ONYX_SHIM_TRACE");
    below = getenv("ONYX_SHIM_BELOW");
    action = getenv("ONYX_SHIM_DO");
    at = number ? atol(number) : 0;
    if (!action)
        action = "";
    trace = file ? (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

static void die(void)
{
    syscall(SYS_kill, (long)getpid(), (long)SIGKILL);
    for (;;)
        pause();
}

/* The path of a descriptor, or of a name relative to one. */
static void resolve(char *out, size_t size, int fd, const char *name)
{
    out[0] = 0;
    if (name && name[0] == '/') {
        snprintf(out, size, "%s", name);
        return;
    }
    char link[64], dir[4096] = "";
    if (fd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, dir, sizeof dir - 1);
    if (n <= 0)
        return;
    dir[n] = 0;
    snprintf(out, size, name ? "%s/%s" : "%s", dir, name ? name : "");
}

static int is_below(const char *path)
{
    size_t n = below ? strlen(below) : 0;
    return n && !strncmp(path, below, n) && (path[n] == '/' || !path[n]);
}

/* What is to happen to this call: 0 nothing, 1 it is to be followed by the end, -1 it fails with errno. */
static int meet(const char *name, const char *path, const char *second, int kind)
{
    begin();
    if (!is_below(path) && !(second && is_below(second)))
        return 0;
    int kept = errno;
    long number = ++count;
    char line[9000];
    int n = snprintf(line, sizeof line, "%ld %s %s%s%s\n", number, name, path, second ? " " : "", second ? second : "");
    if (trace >= 0 && n > 0)
        syscall(SYS_write, trace, line, (size_t)n);
    errno = kept;
    int lasting = action[0] && action[strlen(action) - 1] == '+';
    if (!at || (lasting ? number < at : number != at))
        return 0;
    if (!strcmp(action, "before"))
        die();
    if (!strcmp(action, "after") || !strcmp(action, "half"))
        return 1;
    if (!strncmp(action, "eio", 3)) {
        errno = EIO;
        return -1;
    }
    if (!strncmp(action, "enospc", 6) && (kind & ROOM)) {
        errno = ENOSPC;
        return -1;
    }
    return 0;
}

/* The next function of this name. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FINISH(met, call)                                                                                                                    \
    do {                                                                                                                                     \
        if ((met) < 0)                                                                                                                       \
            return -1;                                                                                                                       \
        __typeof__(call) result = (call);                                                                                                    \
        if (met)                                                                                                                             \
            die();                                                                                                                           \
        return result;                                                                                                                       \
    } while (0)

#define OPEN(function)                                                                                                                       \
    int function(const char *path, int flags, ...)                                                                                           \
    {                                                                                                                                        \
        va_list more;                                                                                                                        \
        va_start(more, flags);                                                                                                               \
        mode_t mode = va_arg(more, mode_t);                                                                                                  \
        va_end(more);                                                                                                                        \
        char full[4200];                                                                                                                     \
        resolve(full, sizeof full, AT_FDCWD, path);                                                                                          \
        int met = meet(flags & O_CREAT ? "create" : "open", full, NULL, flags & O_CREAT ? ROOM : 0);                                        \
        FINISH(met, NEXT(function)(path, flags, mode));                                                                                      \
    }
#define OPENAT(function)                                                                                                                     \
    int function(int fd, const char *path, int flags, ...)                                                                                   \
    {                                                                                                                                        \
        va_list more;                                                                                                                        \
        va_start(more, flags);                                                                                                               \
        mode_t mode = va_arg(more, mode_t);                                                                                                  \
        va_end(more);                                                                                                                        \
        char full[4200];                                                                                                                     \
        resolve(full, sizeof full, fd, path);                                                                                                \
        int met = meet(flags & O_CREAT ? "create" : "open", full, NULL, flags & O_CREAT ? ROOM : 0);                                        \
        FINISH(met, NEXT(function)(fd, path, flags, mode));                                                                                  \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t length)
{
    char full[4200];
    resolve(full, sizeof full, fd, NULL);
    int met = meet("write", full, NULL, ROOM);
    size_t half = met > 0 && !strcmp(action, "half") ? length / 2 : length;
    FINISH(met, NEXT(write)(fd, bytes, half));
}

#define BY_FD(function, name, kind, PARAMETERS, ...)                                                                                         \
    int function PARAMETERS                                                                                                                  \
    {                                                                                                                                        \
        char full[4200];                                                                                                                     \
        resolve(full, sizeof full, fd, NULL);                                                                                                \
        int met = meet(name, full, NULL, kind);                                                                                              \
        FINISH(met, NEXT(function)(__VA_ARGS__));                                                                                            \
    }
BY_FD(fsync, "fsync", ROOM, (int fd), fd)
BY_FD(fdatasync, "fsync", ROOM, (int fd), fd)
BY_FD(ftruncate, "truncate", ROOM, (int fd, off_t length), fd, length)
BY_FD(ftruncate64, "truncate", ROOM, (int fd, off64_t length), fd, length)
BY_FD(fchmod, "chmod", 0, (int fd, mode_t mode), fd, mode)
BY_FD(fchown, "chown", 0, (int fd, uid_t user, gid_t group), fd, user, group)
BY_FD(flock, "flock", 0, (int fd, int operation), fd, operation)

#define BY_PATH(function, name, kind, at_fd, PARAMETERS, ...)                                                                                \
    int function PARAMETERS                                                                                                                  \
    {                                                                                                                                        \
        char full[4200];                                                                                                                     \
        resolve(full, sizeof full, at_fd, path);                                                                                             \
        int met = meet(name, full, NULL, kind);                                                                                              \
        FINISH(met, NEXT(function)(__VA_ARGS__));                                                                                            \
    }
BY_PATH(mkdir, "mkdir", ROOM, AT_FDCWD, (const char *path, mode_t mode), path, mode)
BY_PATH(mkdirat, "mkdir", ROOM, fd, (int fd, const char *path, mode_t mode), fd, path, mode)
BY_PATH(unlink, "unlink", 0, AT_FDCWD, (const char *path), path)
BY_PATH(unlinkat, "unlink", 0, fd, (int fd, const char *path, int flags), fd, path, flags)
BY_PATH(rmdir, "rmdir", 0, AT_FDCWD, (const char *path), path)
BY_PATH(truncate, "truncate", ROOM, AT_FDCWD, (const char *path, off_t length), path, length)
BY_PATH(chmod, "chmod", 0, AT_FDCWD, (const char *path, mode_t mode), path, mode)
BY_PATH(fchmodat, "chmod", 0, fd, (int fd, const char *path, mode_t mode, int flags), fd, path, mode, flags)
BY_PATH(chown, "chown", 0, AT_FDCWD, (const char *path, uid_t user, gid_t group), path, user, group)
BY_PATH(lchown, "chown", 0, AT_FDCWD, (const char *path, uid_t user, gid_t group), path, user, group)
BY_PATH(fchownat, "chown", 0, fd, (int fd, const char *path, uid_t user, gid_t group, int flags), fd, path, user, group, flags)

#define TWO(function, name, from_fd, to_fd, PARAMETERS, ...)                                                                                 \
    int function PARAMETERS                                                                                                                  \
    {                                                                                                                                        \
        char first[4200], second[4200];                                                                                                      \
        resolve(first, sizeof first, from_fd, from);                                                                                         \
        resolve(second, sizeof second, to_fd, to);                                                                                           \
        int met = meet(name, first, second, ROOM);                                                                                           \
        FINISH(met, NEXT(function)(__VA_ARGS__));                                                                                            \
    }
TWO(rename, "rename", AT_FDCWD, AT_FDCWD, (const char *from, const char *to), from, to)
TWO(renameat, "rename", fd, other, (int fd, const char *from, int other, const char *to), fd, from, other, to)
TWO(renameat2, "rename", fd, other, (int fd, const char *from, int other, const char *to, unsigned flags), fd, from, other, to, flags)
TWO(link, "link", AT_FDCWD, AT_FDCWD, (const char *from, const char *to), from, to)
TWO(linkat, "link", fd, other, (int fd, const char *from, int other, const char *to, int flags), fd, from, other, to, flags)

/* A link's target is text, not a path of this process: it is shown as it is. */
int symlink(const char *target, const char *path)
{
    char full[4200];
    resolve(full, sizeof full, AT_FDCWD, path);
    int met = meet("symlink", full, target, ROOM);
    FINISH(met, NEXT(symlink)(target, path));
}

int symlinkat(const char *target, int fd, const char *path)
{
    char full[4200];
    resolve(full, sizeof full, fd, path);
    int met = meet("symlink", full, target, ROOM);
    FINISH(met, NEXT(symlinkat)(target, fd, path));
}
