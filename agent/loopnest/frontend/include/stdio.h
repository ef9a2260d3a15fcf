#ifndef AGENT_STDIO_H
#define AGENT_STDIO_H
#include <stddef.h>
typedef struct agent_file FILE;
extern FILE *stdin, *stdout, *stderr;
#define EOF (-1)
#define SEEK_SET 0
#define SEEK_CUR 1
#define SEEK_END 2
#define BUFSIZ 8192
#endif
