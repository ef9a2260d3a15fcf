#ifndef AGENT_SCHED_H
#define AGENT_SCHED_H
int sched_yield(void);
#endif
