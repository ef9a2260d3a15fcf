static float pixel(const float *im, int w, int h, int row, int col, int pad)
{
    row -= pad;
    col -= pad;
    if (row < 0 || col < 0 || row >= h || col >= w)
        return 0;
    return im[col + w * row];
}

void padded_pixel(int w, int h, int pad, const float *im, float *out)
{
    for (int y = 0; y < h + 2 * pad; y++)
        for (int x = 0; x < w + 2 * pad; x++)
            out[y * (w + 2 * pad) + x] = 2.0f * pixel(im, w, h, y, x, pad);
}
