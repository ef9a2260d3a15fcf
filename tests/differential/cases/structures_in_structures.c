struct vector {
    float x, y;
};

struct body {
    double mass;
    struct vector at, speed;
    struct {
        int kind;
        float w[3][2];
    } part[4];
};

void structures_in_structures(int n, struct body *p, float dt)
{
    for (int i = 0; i < n; i++) {
        p[i].at.x += dt * p[i].speed.x;
        p[i].at.y += dt * p[i].speed.y;
        for (int j = 0; j < 4; j++) {
            p[i].part[j].kind += j;
            for (int k = 0; k < 3; k++)
                p[i].part[j].w[k][1] += p[i].part[j].w[k][0] * (float)p[i].mass;
        }
    }
}
