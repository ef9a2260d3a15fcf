#ifndef AGENT_STRINGS_H
#define AGENT_STRINGS_H
#include <string.h>
void bzero(void *, size_t);
int ffs(int);
#endif
