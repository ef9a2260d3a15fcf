#ifndef AGENT_TIME_H
#define AGENT_TIME_H
typedef long time_t;
typedef long clock_t;
struct timespec { time_t tv_sec; long tv_nsec; };
#define CLOCKS_PER_SEC 1000000
#endif
