#ifndef AGENT_SYS_TYPES_H
#define AGENT_SYS_TYPES_H
#include <stddef.h>
#include <stdint.h>
typedef long ssize_t;
typedef long off_t;
typedef int pid_t;
typedef unsigned int uint;
typedef unsigned char u_char;
typedef unsigned short ushort;
typedef unsigned long ulong;
#endif
