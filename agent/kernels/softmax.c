/* Softmax of every row: class probabilities of an inspection network. A maximum, exponentials, a
   sum and divisions in one imperfect nest with temporaries. */
#include <math.h>

void softmax(int ni, int nj, float P[ni][nj], const float A[ni][nj])
{
#pragma scop
    for (int i = 0; i < ni; i++) {
        float top = A[i][0];
        float sum = 0.0f;
        for (int j = 0; j < nj; j++)
            top = fmaxf(top, A[i][j]);
        for (int j = 0; j < nj; j++) {
            P[i][j] = expf(A[i][j] - top);
            sum += P[i][j];
        }
        for (int j = 0; j < nj; j++)
            P[i][j] /= sum;
    }
#pragma endscop
}
