#include <stdbool.h>

struct flags {
    bool on, seen[2];
    float level;
};

static bool over(float x, bool w) { return x > 0.25f && w; }

bool truth_values(int n, bool *on, const float *a, unsigned char *b, struct flags *s, bool start)
{
    static const bool table[3] = {1, 0, 5};
    bool any = false, all = start;
    for (int i = 0; i < n; i++) {
        on[i] = a[i];
        any |= over(a[i], on[i]);
        all = all && b[i];
        b[i] = on[i] + table[i % 3];
        if (!s[i].on)
            b[i] += any;
        s[i].seen[i % 2] ^= on[i];
        s[i].level += (float)s[i].seen[1] + (bool)(a[i] * 0.25f);
        on[i]--;
    }
    return any != all;
}
