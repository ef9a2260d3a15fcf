#ifndef AGENT_STDIO_H
#define AGENT_STDIO_H
#include <stddef.h>
typedef struct agent_file FILE;
extern FILE *stdin, *stdout, *stderr;
#define EOF (-1)
#endif
