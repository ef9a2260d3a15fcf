#ifndef AGENT_ALLOCA_H
#define AGENT_ALLOCA_H
#include <stdlib.h>
#endif
