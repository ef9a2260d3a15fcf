#ifndef AGENT_STDARG_H
#define AGENT_STDARG_H
typedef struct agent_va_list *va_list;
#endif
