#ifndef AGENT_STDALIGN_H
#define AGENT_STDALIGN_H
#define alignas _Alignas
#define alignof _Alignof
#endif
