/*
 * A shim for qemu-user, loaded into the emulated program by LD_PRELOAD.
 *
 * The serialport crate sets the line speed with the termios2 requests TCGETS2 and TCSETS2. qemu-user got these only in 2025;
 * Debian 12's 7.2 answers ENOSYS, so that no serial port and no pty could be opened by an armv7 program under it. The shim turns
 * both into the older TCGETS and TCSETS, which qemu does know. The program under test stays exactly the one that is shipped.
 *
 * A pty has no line speed, so a fixed one is answered: nothing under test depends on it.
 */
#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>

/* Bits per second; the Onyx dongle's own default. */
#define ANSWERED_SPEED 115200

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, ...);
    if (!next)
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");

    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);

    struct termios old;
    switch (request) {
    case TCGETS2: {
        struct termios2 *answer = argument;
        int status = next(fd, TCGETS, &old);
        if (status == 0) {
            memcpy(answer, &old, sizeof old); /* termios2 begins with the fields of termios */
            answer->c_ispeed = answer->c_ospeed = ANSWERED_SPEED;
        }
        return status;
    }
    case TCSETS2:
        memcpy(&old, argument, sizeof old);
        if ((old.c_cflag & CBAUD) == BOTHER)
            old.c_cflag = (old.c_cflag & ~(tcflag_t)CBAUD) | B115200;
        return next(fd, TCSETS, &old);
    default:
        return next(fd, request, argument);
    }
}
