#ifndef AGENT_STDNORETURN_H
#define AGENT_STDNORETURN_H
#define noreturn _Noreturn
#endif
