"""Update rules: all parameters of a network in one pass over memory.

    g = clip(scale * grad, -limit, limit) + decay * w,  w *= shrink, and then

    SGD:       w -= lr * g
    momentum:  v = keep * v - lr * g,  w += v;  Nesterov's: w += keep * v - lr * g
    AdaGrad:   h += g * g,                          w -= lr * g / (sqrt(h) + 1e-7)
    RMSprop:   h = keep * h + (1 - keep) * g * g,   w -= lr * g / (sqrt(h) + 1e-7)
    Adam:      m += (1 - keep) * (g - m),  v += (1 - keep_square) * (g * g - v),
               w -= lr * m / (sqrt(v) + 1e-7)

a. Memory is the limit: Adam moves 28 bytes a float32 parameter, and computes for a quarter of that
   time. So a number is read once and written once, whatever is clipped and decays.
b. A network has hundreds of parameters, many of them short. They are laid out one after the other
   in a table, and an item is a run of this row, which may begin and end in the middle of an array.
   So a call has one parallel region, and its threads end at about the same time.
c. Where items begin depends on the sizes alone, and an item writes only its own numbers. Sums of
   squares are added up in the order of the items. So no result depends on the number of threads.
   Arrays must not overlap: `takes` finds out.
d. Parameters and gradients of float16 are converted a stage at a time. What is kept for them is
   float32, because squares of float16 are soon zero.
e. These did not help with 138 million parameters on 2 cores of a Zen 5 (57 ms, 68 GB/s): stores
   past the caches (63 ms; lines that are read are in the caches anyway), prefetching 256 bytes,
   1 or 4 KiB ahead (59, 61, 62), both (71), and rows that begin at lines (no difference).
"""

from libc.stdlib cimport qsort

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT16, FLOAT32, OPAQUE, Number, bytes_of
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport array_kind, computed_format, number_of
from fastconv._kernels.rows cimport AS_IS, Format, load_row, store_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "optimizers.h":
    ctypedef enum RuleName:
        SGD
        MOMENTUM
        NESTEROV
        ADAGRAD
        RMSPROP
        ADAM

    ctypedef struct Step:
        double scale, limit, decay, shrink, lr, keep, keep_square

    ctypedef void (*Rule)(
        const Step *step, void *param, const void *grad, void *first, void *second,
        Py_ssize_t count,
    ) noexcept nogil
    ctypedef double (*SumOfSquares)(const void *row, Py_ssize_t count) noexcept nogil

    Rule rule_of(RuleName name, Number number) noexcept nogil
    SumOfSquares sum_of_squares_of(Number number) noexcept nogil

NAMES = {
    "SGD": SGD, "Momentum": MOMENTUM, "Nesterov": NESTEROV, "AdaGrad": ADAGRAD, "RMSprop": RMSPROP,
    "Adam": ADAM,
}

cdef enum:
    # The count of numbers of an item. ResNet-20 has 33 such runs, enough for many threads to end
    # together. On two threads, runs of 32 << 10 take the same time, for 0.3 to 138 million numbers.
    RUN = 8 << 10
    # Arrays begin at a multiple of this in the row of all numbers, so that items begin at lines.
    ALIGNMENT = 64
    # The largest count of float16 numbers that are converted at a time: they stay in L1.
    STAGE = 1 << 10
    # The most variables that a rule keeps.
    KEPT = 2


cdef struct Member:
    # An array of the row of all numbers, with its gradient and what is kept for it.
    Py_ssize_t first, count  # Its numbers' places in the row.
    char *param  # This is NULL if only gradients are read.
    const char *grad
    char *kept[KEPT]
    Format param_format, grad_format
    Py_ssize_t bytes  # Bytes of a number that is computed with.
    Rule rule
    SumOfSquares squares
    bint converted, decays


cdef struct Plan:
    Member *members
    Py_ssize_t count  # The number of members.
    Py_ssize_t numbers  # The length of the row of all numbers.
    Step decaying, plain  # How parameters change that decay, and the others.
    double *sums  # An item's sum of squares.
    double moved
    Layout scratch
    size_t param_stage, grad_stage


cdef struct Interval:
    # The memory of an array.
    const char *begin
    const char *end
    bint written


# ---- which arrays are taken ----------------------------------------------------------------------

cdef int compare_begins(const void *a, const void *b) noexcept nogil:
    cdef const char *first = (<const Interval *>a).begin
    cdef const char *second = (<const Interval *>b).begin
    return (first > second) - (first < second)


cdef bint overlap(Interval *intervals, Py_ssize_t count) noexcept nogil:
    """Whether an array that is written shares memory with any other."""
    cdef Py_ssize_t i
    cdef const char *end = NULL
    cdef const char *end_written = NULL
    qsort(intervals, <size_t>count, sizeof(Interval), compare_begins)
    for i in range(count):
        if intervals[i].begin < (end if intervals[i].written else end_written):
            return True
        if intervals[i].end > end:
            end = intervals[i].end
        if intervals[i].written and intervals[i].end > end_written:
            end_written = intervals[i].end
    return False


cdef Number kept_number(cnp.ndarray param) noexcept:
    """The type of what is kept for a parameter, or OPAQUE if that can be none."""
    cdef Number number = number_of(param)
    if array_kind(param) != b"f" or number == OPAQUE:
        return OPAQUE
    return FLOAT32 if number == FLOAT16 else number


cdef bint fits(object value, cnp.ndarray param, Number number, bint written) noexcept:
    """Whether something is an array of a parameter's shape that a row of numbers can hold."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(value):
        return False
    array = <cnp.ndarray>value
    return (
        array_kind(array) == b"f" and number_of(array) == number
        and cnp.PyArray_SAMESHAPE(array, param) and cnp.PyArray_ISCARRAY_RO(array)
        and (cnp.PyArray_ISWRITEABLE(array) or not written)
    )


cdef Interval interval_of(cnp.ndarray array, bint written) noexcept:
    cdef Interval interval
    interval.begin = <const char *>cnp.PyArray_DATA(array)
    interval.end = interval.begin + cnp.PyArray_NBYTES(array)
    interval.written = written
    return interval


cdef Py_ssize_t list_intervals(
    list params, list grads, tuple kept, Interval *intervals
) except -1:
    """Fill in the memory of all arrays that are not empty, and return how many these are.

    The result is -2 if there is something that is not taken.
    """
    cdef Py_ssize_t i, count = 0
    cdef cnp.ndarray param
    cdef Number number
    cdef list of_variable
    for i in range(len(params)):
        if not cnp.PyArray_CheckExact(params[i]):
            return -2
        param = <cnp.ndarray>params[i]
        number = kept_number(param)
        if number == OPAQUE or not fits(param, param, number_of(param), True):
            return -2
        if not fits(grads[i], param, number, False):
            if not fits(grads[i], param, number_of(param), False):
                return -2
        for of_variable in kept:
            if not fits(of_variable[i], param, number, True):
                return -2
        if cnp.PyArray_SIZE(param) == 0:
            continue
        intervals[count] = interval_of(param, True)
        intervals[count + 1] = interval_of(<cnp.ndarray>grads[i], False)
        count += 2
        for of_variable in kept:
            intervals[count] = interval_of(<cnp.ndarray>of_variable[i], True)
            count += 1
    return count


def takes(list params, list grads, tuple kept):
    """Tell whether `update` takes these arrays, or what else is given in their place.

    It takes arrays of one shape for each parameter, C-contiguous, aligned and native, writable but
    for the gradients. Parameters are of float16, float32 or float64; gradients of the same dtype,
    or of that of what is kept, which is float32 for float16. No two of them overlap, but gradients.
    """
    cdef Py_ssize_t count = len(params) * (2 + len(kept))
    cdef Interval *intervals = <Interval *>allocate(
        <double>count * sizeof(Interval), "memory of arrays"
    )
    try:
        count = list_intervals(params, grads, kept, intervals)
        return count >= 0 and not overlap(intervals, count)
    finally:
        release(<char *>intervals)


# ---- items ---------------------------------------------------------------------------------------

cdef Py_ssize_t member_at(const Plan *plan, Py_ssize_t place) noexcept nogil:
    """Return the last member that begins at or before a place in the row of all numbers."""
    cdef Py_ssize_t low = 0, high = plan.count, middle
    while high - low > 1:
        middle = (low + high) // 2
        if plan.members[middle].first <= place:
            low = middle
        else:
            high = middle
    return low


cdef void update_numbers(
    const Plan *plan, const Member *member, Py_ssize_t first, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Change neighbouring numbers of an array."""
    cdef const Step *step = &plan.decaying if member.decays else &plan.plain
    cdef char *param = member.param + first * member.param_format.bytes
    cdef const char *grad = member.grad + first * member.grad_format.bytes
    cdef Py_ssize_t n, at = first * member.bytes
    if not member.converted:
        member.rule(step, param, grad, member.kept[0] + at, member.kept[1] + at, count)
        return
    while count > 0:
        n = smaller(count, STAGE)
        load_row(scratch + plan.param_stage, param, n, member.param_format.bytes,
                 member.param_format)
        load_row(scratch + plan.grad_stage, grad, n, member.grad_format.bytes, member.grad_format)
        member.rule(step, scratch + plan.param_stage, scratch + plan.grad_stage,
                    member.kept[0] + at, member.kept[1] + at, n)
        store_row(param, scratch + plan.param_stage, n, member.param_format)
        param += n * member.param_format.bytes
        grad += n * member.grad_format.bytes
        at += n * member.bytes
        count -= n


cdef double squares_of_numbers(
    const Plan *plan, const Member *member, Py_ssize_t first, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Add up the squares of neighbouring numbers of a gradient."""
    cdef const char *grad = member.grad + first * member.grad_format.bytes
    cdef double total = 0
    cdef Py_ssize_t n
    if not member.converted:
        return member.squares(grad, count)
    while count > 0:
        n = smaller(count, STAGE)
        load_row(scratch + plan.grad_stage, grad, n, member.grad_format.bytes, member.grad_format)
        total += member.squares(scratch + plan.grad_stage, n)
        grad += n * member.grad_format.bytes
        count -= n
    return total


cdef void run_item(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Change a run of the row of all numbers, or add up the squares of its gradients."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t begin = item * RUN, end = begin + RUN, first, last
    cdef Py_ssize_t i = member_at(plan, begin)
    cdef const Member *member
    cdef double total = 0
    while i < plan.count and plan.members[i].first < end:
        member = &plan.members[i]
        first = larger(begin - member.first, 0)
        last = smaller(end - member.first, member.count)
        if first < last:
            if plan.sums == NULL:
                update_numbers(plan, member, first, last - first, scratch)
            else:
                total += squares_of_numbers(plan, member, first, last - first, scratch)
        i += 1
    if plan.sums != NULL:
        plan.sums[item] = total


# ---- plans ---------------------------------------------------------------------------------------

cdef void add_member(Plan *plan, cnp.ndarray grad) noexcept:
    """Put a gradient behind the others."""
    cdef Member *member = &plan.members[plan.count]
    member.first, member.count = plan.numbers, cnp.PyArray_SIZE(grad)
    member.param = NULL
    member.grad = <const char *>cnp.PyArray_DATA(grad)
    member.kept[0] = member.kept[1] = NULL
    member.grad_format = member.param_format = computed_format(grad)
    member.bytes = bytes_of(member.grad_format.number)
    member.squares = sum_of_squares_of(member.grad_format.number)
    member.converted = member.grad_format.conversion != AS_IS
    plan.moved += <double>member.count * member.grad_format.bytes
    plan.numbers += ceil_div(member.count, ALIGNMENT) * ALIGNMENT
    plan.count += 1


cdef void add_parameter(
    Plan *plan, RuleName name, cnp.ndarray param, cnp.ndarray grad, tuple kept, Py_ssize_t i
):
    """Put a parameter behind the others."""
    cdef Member *member = &plan.members[plan.count]
    cdef Py_ssize_t j
    add_member(plan, grad)
    member.param = <char *>cnp.PyArray_DATA(param)
    member.param_format = computed_format(param)
    for j in range(len(kept)):
        member.kept[j] = <char *>cnp.PyArray_DATA(<cnp.ndarray?>kept[j][i])
    member.rule = rule_of(name, member.param_format.number)
    member.converted |= member.param_format.conversion != AS_IS
    plan.moved += 2.0 * member.count * (member.param_format.bytes + len(kept) * member.bytes)


cdef int begin_plan(Plan *plan, Py_ssize_t count) except -1:
    """Make a plan for up to `count` arrays, without any."""
    plan.members = <Member *>allocate(<double>count * sizeof(Member), "a table of arrays")
    plan.count = plan.numbers = 0
    plan.sums = NULL
    plan.moved = plan.scratch.bytes = 0
    plan.param_stage = take(&plan.scratch, STAGE * sizeof(float))
    plan.grad_stage = take(&plan.scratch, STAGE * sizeof(float))
    return 0


cdef int run(const Plan *plan, int threads) except -1:
    return for_each(
        run_item, plan, ceil_div(plan.numbers, RUN), <size_t>plan.scratch.bytes, plan.moved,
        useful_threads(plan.moved, threads),
    )


def update(name, tuple step, list params, list grads, tuple kept, decay_biases, int threads):
    """Change parameters that `takes` accepts, and what is kept for them, by the rule of a name.

    `step` has the numbers of a Step. With `decay_biases` not set, parameters of one dimension or
    none do not decay.
    """
    cdef Plan plan
    cdef Py_ssize_t i
    cdef cnp.ndarray param
    cdef RuleName rule = NAMES[name]
    cdef bint all_decay = decay_biases
    (
        plan.decaying.scale, plan.decaying.limit, plan.decaying.decay, plan.decaying.shrink,
        plan.decaying.lr, plan.decaying.keep, plan.decaying.keep_square,
    ) = step
    plan.plain = plan.decaying
    plan.plain.decay, plan.plain.shrink = 0, 1
    begin_plan(&plan, len(params))
    try:
        for i in range(len(params)):
            param = <cnp.ndarray?>params[i]
            plan.members[plan.count].decays = all_decay or cnp.PyArray_NDIM(param) > 1
            add_parameter(&plan, rule, param, <cnp.ndarray?>grads[i], kept, i)
        run(&plan, threads)
    finally:
        release(<char *>plan.members)


def sum_of_squares(list arrays, int threads):
    """Add up the squares of all numbers of arrays that are contiguous, aligned, native floats."""
    cdef Plan plan
    cdef Py_ssize_t i, items
    cdef double total = 0
    begin_plan(&plan, len(arrays))
    try:
        for i in range(len(arrays)):
            add_member(&plan, <cnp.ndarray?>arrays[i])
        items = ceil_div(plan.numbers, RUN)
        plan.sums = <double *>allocate(<double>items * sizeof(double), "sums of squares")
        run(&plan, threads)
        for i in range(items):
            total += plan.sums[i]
        return total
    finally:
        release(<char *>plan.sums)
        release(<char *>plan.members)
