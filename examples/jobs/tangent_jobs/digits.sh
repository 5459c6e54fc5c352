#!/bin/sh
# Softmax regression on scanned digits with plain SGD, in awk: digits.sh FILE.csv.gz LR EPOCHS SEED
zcat "$1" | awk -F, -v lr="$2" -v epochs="$3" -v seed="$4" '
{ for (i = 1; i <= 64; i++) x[NR, i] = $i / 16; x[NR, 65] = 1; y[NR] = $65 }
function score(n, k,    i, sum) { for (i = 1; i <= 65; i++) sum += w[k, i] * x[n, i]; return sum }
function accuracy(first, last,    n, k, best, right) {
    for (n = first; n <= last; n++) {
        best = 0
        for (k = 1; k < 10; k++) if (score(n, k) > score(n, best)) best = k
        right += best == y[n]
    }
    return right / (last - first + 1)
}
END {
    srand(seed % 2147483647)  # mawk takes 32 bits.
    for (epoch = 1; epoch <= epochs; epoch++) {
        for (step = 1; step <= 1077; step++) {
            n = 1 + int(1077 * rand()); total = 0
            for (k = 0; k < 10; k++) total += p[k] = exp(score(n, k))
            for (k = 0; k < 10; k++) for (i = 1; i <= 65; i++) w[k, i] -= lr * (p[k] / total - (y[n] == k)) * x[n, i]
        }
        print "epoch", epoch, "validation", accuracy(1078, 1437), "test", accuracy(1438, 1797)
        fflush()
    }
}'
