/* Rotation of many points by one 3 x 3 matrix: robot frames. Loops of three iterations: what a
   loop itself costs. */
void transform3(int n, float out[n][3], const float in[n][3], const float R[3][3])
{
#pragma scop
    for (int i = 0; i < n; i++)
        for (int r = 0; r < 3; r++) {
            out[i][r] = 0.0f;
            for (int c = 0; c < 3; c++)
                out[i][r] += R[r][c] * in[i][c];
        }
#pragma endscop
}
