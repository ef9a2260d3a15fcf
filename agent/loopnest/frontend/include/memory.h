#ifndef AGENT_MEMORY_H
#define AGENT_MEMORY_H
#include <string.h>
#endif
