/* The inner loops of the update rules, and the sum of squares that clipping needs. Rows are contiguous;
 * a gradient may be the very row of its parameter, because each number is read before it is written.
 * This file is a template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_OPTIMIZERS_H
#define FASTCONV_OPTIMIZERS_H

#include <math.h>

#include "number.h"
#include "window.h"

/* The names of rules, by which drivers choose their functions. Adam is also the rule of AdamW, whose
 * decay is the factor `shrink`. */
typedef enum { SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM, RULES } RuleName;

/* What a rule does to the numbers of a parameter. */
typedef struct {
    double scale;       /* Gradients are multiplied by this, for clipping by their norm. */
    double limit;       /* Gradients are then clipped to -limit ... limit. */
    double decay;       /* This fraction of the parameter is then added to the gradient. */
    double shrink;      /* Parameters are multiplied by this, for decoupled weight decay. */
    double lr;          /* The learning rate, or Adam's with the correction of its means. */
    double keep;        /* The fraction that the first variable keeps (not of AdaGrad). */
    double keep_square; /* The fraction that Adam's mean of squares keeps. */
} Step;

/* Change `count` numbers of a parameter, and of the rule's first and second variable. */
typedef void (*Rule)(const Step *step, void *param, const void *grad, void *first, void *second,
                     Index count);

/* Return the sum of squares of a row, in float64. */
typedef double (*SumOfSquares)(const void *row, Index count);

/* Roots are divided by after this was added, because they may be 0. */
#define EPSILON 1e-7

/* Iterations of the next loop do not depend on each other. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* The number of sums that a row of squares is added to in turn. It is the same at every level. */
enum { SQUARE_SUMS = 16 };

#define TEMPLATE "optimizers.h"
#include "number.h"

static inline Rule rule_of(RuleName name, Number number) {
    return number == FLOAT64 ? rules_double[name] : rules_float[name];
}

static inline SumOfSquares sum_of_squares_of(Number number) {
    return number == FLOAT64 ? sum_of_squares_double : sum_of_squares_float;
}

#endif
#else /* the template */

static inline T NAMED(root)(T x) { return sizeof(T) == 4 ? (T)sqrtf((float)x) : (T)sqrt(x); }

/* BODY changes the parameter w with the gradient g, which is prepared before: it may use the constants,
 * and the variables `first` and `second` at i. */
#define RULE(NAME, BODY)                                                                         \
    static void NAMED(NAME)(const Step *step, void *param, const void *grad, void *first_row,    \
                            void *second_row, Index count) {                                     \
        const T scale = (T)step->scale, limit = (T)step->limit, decay = (T)step->decay;          \
        const T shrink = (T)step->shrink, lr = (T)step->lr, keep = (T)step->keep;                \
        const T take = (T)(1 - step->keep), take_square = (T)(1 - step->keep_square);            \
        const T epsilon = (T)EPSILON;                                                            \
        T *first = (T *)first_row, *second = (T *)second_row;                                    \
        (void)first, (void)second, (void)keep, (void)take, (void)take_square, (void)epsilon;     \
        INDEPENDENT for (Index i = 0; i < count; i++) {                                          \
            T w = ((const T *)param)[i], g = ((const T *)grad)[i] * scale;                       \
            g = g > limit ? limit : g;                                                           \
            g = g < -limit ? -limit : g;                                                         \
            if (decay != 0) g += decay * w;                                                      \
            w *= shrink;                                                                         \
            BODY;                                                                                \
            ((T *)param)[i] = w;                                                                 \
        }                                                                                        \
    }
RULE(sgd, w -= lr * g)
RULE(momentum, first[i] = keep * first[i] - lr * g; w += first[i])
RULE(nesterov, first[i] = keep * first[i] - lr * g; w += keep * first[i] - lr * g)
RULE(adagrad, first[i] += g * g; w -= lr * g / (NAMED(root)(first[i]) + epsilon))
RULE(rmsprop, first[i] = keep * first[i] + take * g * g;
     w -= lr * g / (NAMED(root)(first[i]) + epsilon))
RULE(adam, first[i] += take * (g - first[i]); second[i] += take_square * (g * g - second[i]);
     w -= lr * first[i] / (NAMED(root)(second[i]) + epsilon))
#undef RULE

static const Rule NAMED(rules)[RULES] = {
    [SGD] = NAMED(sgd),         [MOMENTUM] = NAMED(momentum), [NESTEROV] = NAMED(nesterov),
    [ADAGRAD] = NAMED(adagrad), [RMSPROP] = NAMED(rmsprop),   [ADAM] = NAMED(adam),
};

static double NAMED(sum_of_squares)(const void *row, Index count) {
    const T *x = (const T *)row;
    double sums[SQUARE_SUMS] = {0};
    Index i = 0;
    for (; i + SQUARE_SUMS <= count; i += SQUARE_SUMS)
        for (int j = 0; j < SQUARE_SUMS; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < count; j++) sums[j] += (double)x[i + j] * (double)x[i + j];
    for (int half = SQUARE_SUMS / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sums[j] += sums[j + half];
    return sums[0];
}

#endif
