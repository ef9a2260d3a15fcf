#ifndef AGENT_UNISTD_H
#define AGENT_UNISTD_H
#include <sys/types.h>
unsigned sleep(unsigned);
int usleep(unsigned);
pid_t getpid(void);
long sysconf(int);
int close(int);
ssize_t read(int, void *, size_t);
ssize_t write(int, const void *, size_t);
#endif
