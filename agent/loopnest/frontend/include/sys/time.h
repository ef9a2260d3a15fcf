#ifndef AGENT_SYS_TIME_H
#define AGENT_SYS_TIME_H
struct timezone { int tz_minuteswest; int tz_dsttime; };
struct timeval { long tv_sec; long tv_usec; };
#endif
