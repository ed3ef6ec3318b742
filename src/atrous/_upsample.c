/* The class map of a bilinear enlargement, straight from the small logits.
 *
 * Every output pixel lies in a cell between four logit pixels and takes a convex combination of them:
 *
 *     top = left * v[y][x] + right * v[y][x + 1]          the same for bottom, one row below
 *     value = upper * top + lower * bottom
 *
 * Each step is monotone, rounding included, so a class that is nowhere above another at the four
 * corners is nowhere above it inside. A cell whose corners share a winner is filled; in the others only
 * the classes that can win are computed. The result equals, bit for bit, the argmax over all classes of
 * the formula above in float32, ties to the lowest id.
 *
 * That needs products rounded before they are added: compile with -ffp-contract=off. NaN and infinite
 * logits give an arbitrary class id in the cells they touch.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE static __forceinline
#pragma fp_contract(off)
#else
#define INLINE static inline __attribute__((always_inline))
#endif

/* One build, the widest vectors of the machine that runs it: 2 to 3 times faster than the default on
 * AVX2. The loader chooses, which musl's cannot. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

enum { LANES = 16, ROWS = 16, MAX_CLASSES = 256, UNSURE = -1 };

typedef struct {
    Py_ssize_t classes, height, width;
    const float *values;
} Logits;

/* One axis of the output: the cell that each pixel lies in, the weights of the cell's two sides. */
typedef struct {
    Py_ssize_t size;
    const int32_t *cell;
    const float *first, *second;
} Axis;

/* The output pixels `start .. end - 1` of one axis, all in one cell. */
typedef struct {
    Py_ssize_t cell, start, end;
} Run;

/* One row of the logits, packed class after class, and the winner of each of its pixels. */
typedef struct {
    Py_ssize_t y;
    float *values, *best, *beaten;
    int32_t *winner;
} Row;

/* Logits below this stay below `high` when both are rounded as the formula rounds: by at most 4 * 2^-24
 * of each, and by the smallest normal float where a product underflows. */
INLINE float level(float high)
{
    return high - ((high < 0 ? -high : high) * 0x1p-18f + 16 * FLT_MIN);
}

/* `beaten` is the largest logit among the classes below the winner. Where that is too near, rounding may
 * bring the two level, and then the lower id wins: such a winner is not sure. */
INLINE void read_row(Row *row, const Logits *logits, Py_ssize_t y)
{
    const Py_ssize_t width = logits->width;
    float *__restrict best = row->best, *__restrict beaten = row->beaten;
    int32_t *__restrict winner = row->winner;
    row->y = y;
    for (Py_ssize_t c = 0; c < logits->classes; c++) {
        const float *__restrict from = logits->values + (c * logits->height + y) * width;
        float *__restrict to = row->values + c * width;
        memcpy(to, from, width * sizeof *to);
        if (c == 0)
            for (Py_ssize_t x = 0; x < width; x++) {
                best[x] = from[x];
                beaten[x] = -FLT_MAX;
                winner[x] = 0;
            }
        else
            for (Py_ssize_t x = 0; x < width; x++) {
                int above = from[x] > best[x];
                beaten[x] = above ? best[x] : beaten[x];
                winner[x] = above ? (int32_t)c : winner[x];
                best[x] = above ? from[x] : best[x];
            }
    }
    for (Py_ssize_t x = 0; x < width; x++)
        winner[x] = beaten[x] < level(best[x]) ? winner[x] : UNSURE;
}

/* List the classes that can win in a cell: those whose largest corner is not below every corner of
 * some other class. `top` and `bottom` point at its left corners; `right` steps to the right ones. */
INLINE int contenders(const float *top, const float *bottom, Py_ssize_t right, const Logits *logits,
                      int32_t *ids)
{
    float most[MAX_CLASSES], least = -FLT_MAX;
    int count = 0;
    for (Py_ssize_t c = 0, at = 0; c < logits->classes; c++, at += logits->width) {
        float a = top[at], b = top[at + right], d = bottom[at], e = bottom[at + right];
        float low1 = a < b ? a : b, low2 = d < e ? d : e, low = low1 < low2 ? low1 : low2;
        float high1 = a > b ? a : b, high2 = d > e ? d : e;
        most[c] = high1 > high2 ? high1 : high2;
        least = low > least ? low : least;
    }
    least = level(least);
    for (Py_ssize_t c = 0; c < logits->classes; c++) {
        ids[count] = (int32_t)c;
        count += !(most[c] < least);
    }
    return count;
}

/* Classify the output pixels of one cell, a block of ROWS x LANES at a time: rows do not wait for each
 * other as classes do. */
INLINE void classify(const float *top, const float *bottom, Py_ssize_t right, const Logits *logits,
                     const Axis *rows, const Axis *columns, Run down, Run across, uint8_t *out)
{
    int32_t ids[MAX_CLASSES], winner[ROWS][LANES];
    float best[ROWS][LANES];
    const int count = contenders(top, bottom, right, logits, ids);
    for (Py_ssize_t j = across.start; j < across.end; j += LANES)
        for (Py_ssize_t i = down.start; i < down.end; i += ROWS) {
            const Py_ssize_t wide = across.end - j < LANES ? across.end - j : LANES;
            const Py_ssize_t high = down.end - i < ROWS ? down.end - i : ROWS;
            for (Py_ssize_t r = 0; r < high; r++)
                for (int l = 0; l < LANES; l++) {
                    best[r][l] = -FLT_MAX;
                    winner[r][l] = ids[0];
                }
            for (int k = 0; k < count; k++) {
                const float *p = top + ids[k] * logits->width, *q = bottom + ids[k] * logits->width;
                float upper[LANES], lower[LANES];
                for (int l = 0; l < LANES; l++) {
                    upper[l] = columns->first[j + l] * p[0] + columns->second[j + l] * p[right];
                    lower[l] = columns->first[j + l] * q[0] + columns->second[j + l] * q[right];
                }
                for (Py_ssize_t r = 0; r < high; r++)
                    for (int l = 0; l < LANES; l++) {
                        float value = rows->first[i + r] * upper[l] + rows->second[i + r] * lower[l];
                        int above = value > best[r][l]; /* a mask below: gcc makes `?:` a branch */
                        best[r][l] = above ? value : best[r][l];
                        winner[r][l] ^= (winner[r][l] ^ ids[k]) & -above;
                    }
            }
            for (Py_ssize_t r = 0; r < high; r++) {
                uint8_t narrow[LANES];
                for (int l = 0; l < LANES; l++)
                    narrow[l] = (uint8_t)winner[r][l];
                memcpy(out + (i + r) * columns->size + j, narrow, wide);
            }
        }
}

/* `runs` are the columns' runs; `cells` is room for one label per column of the grid. */
CLONES static void fill(const Logits *logits, const Axis *rows, const Axis *columns, const Run *runs,
                        Row cache[2], int32_t *__restrict cells, uint8_t *out)
{
    const Py_ssize_t right = logits->width > 1, below = logits->height > 1, size = columns->size;
    for (Py_ssize_t i = 0, end; i < rows->size; i = end) {
        const Py_ssize_t y = rows->cell[i];
        for (end = i + 1; end < rows->size && rows->cell[end] == y; end++)
            ;
        Row *top = &cache[y & 1], *bottom = &cache[(y + below) & 1];
        if (top->y != y)
            read_row(top, logits, y);
        if (bottom->y != y + below)
            read_row(bottom, logits, y + below);
        const int32_t *__restrict a = top->winner, *__restrict b = bottom->winner;
        for (Py_ssize_t x = 0; x + right < logits->width; x++)
            cells[x] = a[x] == a[x + right] && a[x] == b[x] && a[x] == b[x + right] ? a[x] : UNSURE;

        uint8_t *line = out + i * size;
        for (const Run *run = runs; run->start < size;) {
            const int32_t label = cells[run->cell];
            const Py_ssize_t start = run->start;
            do
                run++;
            while (run->start < size && cells[run->cell] == label);
            memset(line + start, label, run->start - start);
        }
        for (Py_ssize_t other = i + 1; other < end; other++)
            memcpy(out + other * size, line, size);
        for (const Run *run = runs; run->start < size; run++)
            if (cells[run->cell] == UNSURE)
                classify(top->values + run->cell, bottom->values + run->cell, right, logits, rows,
                         columns, (Run){y, i, end}, *run, out);
    }
}

static int argmax(const Logits *logits, const Axis *rows, const Axis *columns, uint8_t *out)
{
    const Py_ssize_t width = logits->width, size = columns->size;
    const Py_ssize_t row_floats = (logits->classes + 2) * width;
    Run *runs = malloc((size + 1) * sizeof *runs);
    float *floats = malloc((2 * row_floats + 2 * (size + LANES)) * sizeof *floats);
    int32_t *labels = malloc(3 * width * sizeof *labels);
    int done = runs && floats && labels;
    if (done) {
        Row cache[2];
        for (int n = 0; n < 2; n++) {
            float *base = floats + n * row_floats;
            cache[n] = (Row){-1, base + 2 * width, base, base + width, labels + n * width};
        }
        /* The vectors read LANES weights at once, beyond the last one too. */
        float *first = floats + 2 * row_floats, *second = first + size + LANES;
        memset(first, 0, 2 * (size + LANES) * sizeof *first);
        memcpy(first, columns->first, size * sizeof *first);
        memcpy(second, columns->second, size * sizeof *second);
        const Axis padded = {size, columns->cell, first, second};

        Run *run = runs;
        for (Py_ssize_t j = 0; j < size; j = run++->end) {
            *run = (Run){columns->cell[j], j, j + 1};
            while (run->end < size && columns->cell[run->end] == run->cell)
                run->end++;
        }
        run->start = size;
        fill(logits, rows, &padded, runs, cache, labels + 2 * width, out);
    }
    free(runs);
    free(floats);
    free(labels);
    return done;
}

/* Take one axis from its three buffers, or return 0 if they do not fit a grid of `grid` pixels. */
static int read_axis(Axis *axis, const Py_buffer *buffers, Py_ssize_t grid)
{
    const Py_ssize_t last = grid > 1 ? grid - 2 : 0;
    axis->size = buffers[0].len / 4;
    axis->cell = buffers[0].buf;
    axis->first = buffers[1].buf;
    axis->second = buffers[2].buf;
    for (int n = 0; n < 3; n++)
        if (buffers[n].len != axis->size * 4)
            return 0;
    for (Py_ssize_t i = 0; i < axis->size; i++)
        if (axis->cell[i] < 0 || axis->cell[i] > last)
            return 0;
    return 1;
}

static PyObject *py_argmax(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer in[7] = {0}, out = {0};
    Logits logits;
    Axis rows, columns;
    PyObject *result = NULL;
    if (PyArg_ParseTuple(args, "y*(nnn)y*y*y*y*y*y*w*", &in[0], &logits.classes, &logits.height,
                         &logits.width, &in[1], &in[2], &in[3], &in[4], &in[5], &in[6], &out)) {
        logits.values = in[0].buf;
        if (logits.classes < 1 || logits.classes > MAX_CLASSES || logits.height < 1 ||
            logits.width < 1 || in[0].len / 4 / logits.classes / logits.height != logits.width ||
            !read_axis(&rows, in + 1, logits.height) || !read_axis(&columns, in + 4, logits.width) ||
            out.len != rows.size * columns.size) {
            PyErr_SetString(PyExc_ValueError, "buffers do not fit each other");
        } else {
            int done;
            Py_BEGIN_ALLOW_THREADS
            done = argmax(&logits, &rows, &columns, out.buf);
            Py_END_ALLOW_THREADS
            result = done ? Py_NewRef(Py_None) : PyErr_NoMemory();
        }
        for (int n = 0; n < 7; n++)
            PyBuffer_Release(&in[n]);
        PyBuffer_Release(&out);
    }
    return result;
}

static PyMethodDef methods[] = {
    {"argmax", py_argmax, METH_VARARGS,
     "argmax(logits, (classes, height, width), row_cells, row_first, row_second, column_cells, "
     "column_first, column_second, out)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_upsample", NULL, 0, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__upsample(void)
{
    return PyModule_Create(&definition);
}
