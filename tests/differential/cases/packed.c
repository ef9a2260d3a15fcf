int packed(int w, int h, const float *im, float *out, int *at, unsigned char *flags)
{
    int kept = 0;
    unsigned found = 2;
    for (int y = 0; y < h; y++) {
        int m = 0;
        for (int x = 0; x < w; x++) {
            if (im[y * w + x] > 0.25f) {
                out[kept++] = im[y * w + x];
                flags[++m] += 1;
            } else if (im[y * w + x] < -0.5f) {
                at[found] = x;
                at[++found] = y;
            }
        }
    }
    return kept + (int)found;
}
