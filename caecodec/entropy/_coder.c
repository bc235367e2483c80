/* Context coding in C: the bytes of FORMAT.md, 5 to 7, that context_numpy.py codes too, without Python's lock; and, at the end,
   those of sections 24 and 25, which binary_context_numpy.py and layered_numpy.py code too.

   symbols (images, M, rows, columns) int32 <-> indices (M, P) uint8 in coding order <-> words of each stream, escape list

   M channels, of which `count` are coded; P positions: the rows of all images, one below the other. Stream i has the positions
   bounds[i] to bounds[i + 1] - 1. Channels are predicted in blocks of LANES, from those before the block and then from those
   inside it. Since most magnitudes are 0, each position has a list of the channels before the block whose 3x3 sum is not.

   Nothing in a payload can make it read or write beyond an array: tables are checked when they are loaded (context_tables.py),
   the sizes of all arrays by `fits` and the like, and every index that `pull` finds is at most the escape. */

#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__) || defined(_M_X64)
#define SSE2
#include <emmintrin.h>
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#define AVX2
#include <immintrin.h>
static int has_avx2; /* whether the processor does; set when the module is loaded */
#endif

enum { LANES = 16, CLIP = 8, OWN = 8, FEW = 8, MAX_SYMBOL = 1 << 24 };
enum { LEFT = 1, UP = 2 };
#define TOTAL ((uint32_t)1 << 24)

typedef struct {
    const int32_t *order;       /* (M,): the channels in coding order; all other arrays are in this order */
    const uint8_t *difference;  /* (M,): LEFT, UP, or 0 */
    const uint8_t *radius;      /* (M,): index 2 radius + 1 is the escape */
    const int16_t *weight;      /* (blocks, M, LANES, 2): of magnitude and 3x3 sum; 0 from the channel itself on */
    const int32_t *threshold;   /* (M, classes - 1), ascending; classes is a power of two */
    const uint8_t *table;       /* (M, classes): the table of each class */
    const uint32_t *cumulative; /* (T, entries): the sum of the masses below each index */
    const uint64_t *reciprocal; /* (T, entries): floor((2^64 - 1) / mass) */
    Py_ssize_t channels, classes, entries;
} Tables;

typedef struct {
    int16_t magnitude, sum; /* OWN times the magnitude, and the sum of the 3x3 magnitudes */
} Features;

typedef struct {
    Features features;
    uint32_t at; /* where the weights of the channel begin among those of a block */
} Known;

typedef struct {
    Py_ssize_t images, rows, columns, positions, count;
    uint8_t *index;       /* (channels, P) */
    Features *block;      /* (LANES, P): of the channels of the block, as far as they are known */
    int32_t *predictions; /* (P, LANES): of the channels of the block from those before it */
    Known *known;         /* (P, stride): the channels before the block whose 3x3 sum is not 0, at most `listed` */
    Py_ssize_t stride;
    uint32_t *filled;     /* (P,): how many these are */
    uint8_t *magnitude;   /* (P,) of one channel */
    uint8_t *sums;        /* (columns + 2,) */
} Context;

static void context_free(Context *s)
{
    free(s->index);
    free(s->block);
    free(s->predictions);
    free(s->known);
    free(s->filled);
    free(s->magnitude);
    free(s->sums);
}

static void *allocate(size_t number, size_t size)
{
    return number > (size_t)PTRDIFF_MAX / size ? NULL : malloc(number ? number * size : 1);
}

static int context_init(Context *s, Py_ssize_t channels, Py_ssize_t listed)
{
    const size_t positions = (size_t)s->positions;
    s->stride = (listed / 8 + 1) * 8; /* an odd number of cache lines, so that lists fall into all sets of a cache */
    s->stride += s->stride / 8 % 2 ? 0 : 8;
    s->index = positions > (size_t)(PTRDIFF_MAX / channels) ? NULL : allocate(positions * (size_t)channels, 1);
    s->block = allocate(positions, LANES * sizeof(Features));
    s->predictions = allocate(positions, LANES * sizeof(int32_t));
    s->known = positions > PTRDIFF_MAX / (size_t)s->stride ? NULL : allocate(positions * (size_t)s->stride, sizeof(Known));
    s->filled = allocate(positions, sizeof(uint32_t));
    s->magnitude = allocate(positions, 1);
    s->sums = allocate((size_t)s->columns + 2, 1);
    if (!s->index || !s->block || !s->predictions || !s->known || !s->filled || !s->magnitude || !s->sums)
        return 0;
    memset(s->filled, 0, positions * sizeof(uint32_t));
    return 1;
}

/* The sums of the products of a position's list for each channel of a block. */
#ifdef AVX2
__attribute__((target("avx2"))) static void sum_known_avx2(int32_t *prediction, const int16_t *weight, const Known *known,
                                                           uint32_t number)
{
    __m256i p0 = _mm256_setzero_si256(), p1 = p0, *out = (__m256i *)prediction;
    for (const Known *end = known + number; known < end; known++) {
        const __m256i *w = (const __m256i *)(weight + known->at);
        int both;
        memcpy(&both, &known->features, sizeof(both));
        const __m256i features = _mm256_set1_epi32(both);
        p0 = _mm256_add_epi32(p0, _mm256_madd_epi16(_mm256_loadu_si256(w), features));
        p1 = _mm256_add_epi32(p1, _mm256_madd_epi16(_mm256_loadu_si256(w + 1), features));
    }
    _mm256_storeu_si256(out, p0);
    _mm256_storeu_si256(out + 1, p1);
}
#endif

static inline void sum_known(int32_t *prediction, const int16_t *weight, const Known *known, uint32_t number)
{
#ifdef AVX2
    if (has_avx2) {
        sum_known_avx2(prediction, weight, known, number);
        return;
    }
#endif
#ifdef SSE2
    __m128i p0 = _mm_setzero_si128(), p1 = p0, p2 = p0, p3 = p0, *out = (__m128i *)prediction;
    for (const Known *end = known + number; known < end; known++) {
        const __m128i *w = (const __m128i *)(weight + known->at);
        int both;
        memcpy(&both, &known->features, sizeof(both));
        const __m128i features = _mm_set1_epi32(both);
        p0 = _mm_add_epi32(p0, _mm_madd_epi16(_mm_loadu_si128(w), features));
        p1 = _mm_add_epi32(p1, _mm_madd_epi16(_mm_loadu_si128(w + 1), features));
        p2 = _mm_add_epi32(p2, _mm_madd_epi16(_mm_loadu_si128(w + 2), features));
        p3 = _mm_add_epi32(p3, _mm_madd_epi16(_mm_loadu_si128(w + 3), features));
    }
    _mm_storeu_si128(out, p0);
    _mm_storeu_si128(out + 1, p1);
    _mm_storeu_si128(out + 2, p2);
    _mm_storeu_si128(out + 3, p3);
#else
    memset(prediction, 0, LANES * sizeof(int32_t));
    for (uint32_t i = 0; i < number; i++) {
        const int16_t *w = weight + known[i].at;
        for (int lane = 0; lane < LANES; lane++)
            prediction[lane] += w[2 * lane] * known[i].features.magnitude + w[2 * lane + 1] * known[i].features.sum;
    }
#endif
}

/* Append the features of the first channels of the block, whose weights begin here, to the list of a position. */
static inline void append(Context *s, Py_ssize_t i, const uint32_t *at, Py_ssize_t channels)
{
    Known *known = s->known + i * s->stride;
    uint32_t filled = s->filled[i];
    for (Py_ssize_t lane = 0; lane < channels; lane++) {
        const Features features = s->block[lane * s->positions + i];
        known[filled] = (Known){features, at[lane]};
        filled += features.sum != 0;
    }
    s->filled[i] = filled;
}

/* Append the features of the channels of a block to the lists, and predict the next block, which begins with `channel`. */
static void begin_block(Context *s, const Tables *t, Py_ssize_t channel)
{
    const int16_t *weight = t->weight + channel / LANES * t->channels * 2 * LANES;
    uint32_t at[LANES];
    for (int lane = 0; lane < LANES; lane++)
        at[lane] = (uint32_t)(2 * LANES * (channel - LANES + lane));
    for (Py_ssize_t i = 0; i < s->positions; i++) {
        append(s, i, at, channel ? LANES : 0);
        sum_known(s->predictions + i * LANES, weight, s->known + i * s->stride, s->filled[i]);
    }
}

/* Add the products of one channel's features to the predictions of one channel. */
static inline void add_channel(int32_t *prediction, const int16_t *weight, const Features *features, Py_ssize_t size)
{
    Py_ssize_t i = 0;
#ifdef SSE2
    int both;
    memcpy(&both, weight, sizeof(both));
    const __m128i w = _mm_set1_epi32(both);
    for (; i + 4 <= size; i += 4) {
        __m128i *out = (__m128i *)(prediction + i);
        const __m128i products = _mm_madd_epi16(_mm_loadu_si128((const __m128i *)(features + i)), w);
        _mm_storeu_si128(out, _mm_add_epi32(_mm_loadu_si128(out), products));
    }
#endif
    for (; i < size; i++)
        prediction[i] += weight[0] * features[i].magnitude + weight[1] * features[i].sum;
}

/* How many of the levels a prediction reaches; inlined with a constant number of classes, the search has no branches. */
static inline uint8_t reached(const int32_t *level, Py_ssize_t classes, int32_t prediction)
{
    Py_ssize_t class = 0;
    for (Py_ssize_t step = classes / 2; step; step /= 2)
        class += step & -(Py_ssize_t)(level[class + step - 1] <= prediction);
    return (uint8_t)class;
}

/* The table of each position of a channel; channels come in order. */
static void choose(Context *s, const Tables *t, Py_ssize_t channel, uint8_t *chosen)
{
    enum { TILE = 64 };
    const Py_ssize_t first = channel - channel % LANES;
    const int16_t *weight = t->weight + (first * t->channels + first * LANES + channel % LANES) * 2;
    const int32_t *level = t->threshold + channel * (t->classes - 1);
    const uint8_t *table = t->table + channel * t->classes;
    if (channel == first)
        begin_block(s, t, channel);
    for (Py_ssize_t start = 0; start < s->positions; start += TILE) {
        const Py_ssize_t size = s->positions - start < TILE ? s->positions - start : TILE;
        int32_t prediction[TILE];
        for (Py_ssize_t i = 0; i < size; i++)
            prediction[i] = s->predictions[(start + i) * LANES + channel % LANES];
        for (Py_ssize_t lane = 0; lane < channel % LANES; lane++) {
            const int16_t *pair = weight + lane * 2 * LANES;
            if (pair[0] || pair[1])
                add_channel(prediction, pair, s->block + lane * s->positions + start, size);
        }
        if (t->classes == 32)
            for (Py_ssize_t i = 0; i < size; i++)
                chosen[start + i] = table[reached(level, 32, prediction[i])];
        else
            for (Py_ssize_t i = 0; i < size; i++)
                chosen[start + i] = table[reached(level, t->classes, prediction[i])];
    }
}

/* Take the features of a channel from its indices (P,). */
static void learn(Context *s, const uint8_t *index, Py_ssize_t lane)
{
    const Py_ssize_t rows = s->rows, columns = s->columns;
    Features *features = s->block + lane * s->positions;
    uint8_t *sums = s->sums + 1;
    for (Py_ssize_t i = 0; i < s->positions; i++) {
        const uint8_t magnitude = (uint8_t)((index[i] + 1) / 2);
        s->magnitude[i] = magnitude < CLIP ? magnitude : CLIP;
    }
    for (Py_ssize_t row = 0; row < s->images * rows; row++) {
        const uint8_t *own = s->magnitude + row * columns;
        const uint8_t *above = row % rows ? own - columns : own;
        const uint8_t *below = row % rows == rows - 1 ? own : own + columns;
        for (Py_ssize_t i = 0; i < columns; i++)
            sums[i] = (uint8_t)(above[i] + own[i] + below[i]);
        sums[-1] = sums[0];
        sums[columns] = sums[columns - 1];
        for (Py_ssize_t i = 0; i < columns; i++)
            features[row * columns + i] = (Features){(int16_t)(OWN * own[i]), (int16_t)(sums[i - 1] + sums[i] + sums[i + 1])};
    }
}

typedef struct {
    const unsigned char *words;
    Py_ssize_t left;
    uint64_t state;
} Stream;

static inline uint32_t read_word(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static Stream open_stream(const unsigned char *words, Py_ssize_t left)
{
    Stream stream = {words, left, 0};
    while (stream.state >> 32 == 0 && stream.left)
        stream.state = stream.state << 32 | read_word(words + 4 * --stream.left);
    return stream;
}

/* Decode the indices [start, stop) of a channel. */
static void pull(Stream *stream, const Tables *t, Py_ssize_t channel, const uint8_t *chosen, uint8_t *index, Py_ssize_t start,
                 Py_ssize_t stop)
{
    const uint32_t escape = 2 * (uint32_t)t->radius[channel] + 1;
    uint64_t state = stream->state;
    const unsigned char *word = stream->words + 4 * stream->left;
    for (Py_ssize_t i = start; i < stop; i++) {
        const uint32_t *below = t->cumulative + chosen[i] * t->entries;
        const uint32_t rest = (uint32_t)state & (TOTAL - 1);
        uint32_t found = 0;
        if (rest >= below[1]) { /* count, because the branches of a search among the likely indices would be mispredicted */
            for (int k = 1; k < FEW; k++)
                found += rest >= below[k];
            if (found == FEW - 1) {
                uint32_t top = (uint32_t)t->entries; /* below[found] <= rest < below[top]; TOTAL is behind the last entry */
                while (top - found > 1) {
                    const uint32_t half = (found + top) / 2;
                    if (below[half] <= rest)
                        found = half;
                    else
                        top = half;
                }
            }
            if (found > escape)
                found = escape;
        }
        index[i] = (uint8_t)found;
        const uint32_t end = found == escape ? TOTAL : below[found + 1];
        state = (uint64_t)(end - below[found]) * (state >> 24) + (rest - below[found]);
        if (state >> 32 == 0 && word > stream->words) {
            word -= 4;
            state = state << 32 | read_word(word);
        }
    }
    stream->state = state;
    stream->left = (word - stream->words) / 4;
}

static inline uint64_t divide(uint64_t dividend, uint64_t divisor, uint64_t reciprocal)
{
#ifdef __SIZEOF_INT128__
    uint64_t quotient = (uint64_t)((unsigned __int128)dividend * reciprocal >> 64);
    while (dividend - quotient * divisor >= divisor)
        quotient++;
    return quotient;
#else
    (void)reciprocal;
    return dividend / divisor;
#endif
}

static inline unsigned char *write_word(unsigned char *at, uint64_t word)
{
    for (int i = 0; i < 4; i++)
        *at++ = (unsigned char)(word >> 8 * i);
    return at;
}

/* Encode positions [start, stop) of all channels, the last one first; returns the end of the words. */
static unsigned char *push(const Tables *t, const Context *s, const uint8_t *chosen, Py_ssize_t start, Py_ssize_t stop,
                           unsigned char *out)
{
    uint64_t state = 0;
    for (Py_ssize_t channel = s->count - 1; channel >= 0; channel--) {
        const uint32_t escape = 2 * (uint32_t)t->radius[channel] + 1;
        for (Py_ssize_t i = channel * s->positions + stop - 1; i >= channel * s->positions + start; i--) {
            const Py_ssize_t row = chosen[i] * t->entries;
            const uint32_t *below = t->cumulative + row;
            const uint32_t entry = s->index[i];
            const uint32_t mass = (entry == escape ? TOTAL : below[entry + 1]) - below[entry];
            if (state >= (uint64_t)mass << 40) {
                out = write_word(out, state);
                state >>= 32;
            }
            const uint64_t quotient = entry == escape ? state / mass : divide(state, mass, t->reciprocal[row + entry]);
            state = (quotient << 24) + (state - quotient * mass) + below[entry];
        }
    }
    for (; state; state >>= 32)
        out = write_word(out, state);
    return out;
}

/* The plane of a channel (in coding order) of an image. */
static inline Py_ssize_t plane_of(const Context *s, const Tables *t, Py_ssize_t image, Py_ssize_t channel)
{
    return (image * t->channels + t->order[channel]) * s->rows * s->columns;
}

/* The coded value at a position of a plane. */
static inline int32_t value_at(const int32_t *plane, int kind, Py_ssize_t row, Py_ssize_t column, Py_ssize_t columns)
{
    const int32_t *at = plane + row * columns + column;
    if ((kind == LEFT && column) || (kind == UP && !row && column))
        return *at - at[-1];
    return kind && row ? *at - at[-columns] : *at;
}

/* Fill the index, and find how many channels are coded. */
static void take(Context *s, const Tables *t, const int32_t *symbols)
{
    for (Py_ssize_t channel = 0; channel < t->channels; channel++) {
        const int32_t radius = t->radius[channel];
        const int kind = t->difference[channel];
        uint8_t *out = s->index + channel * s->positions, any = 0;
        for (Py_ssize_t row = 0; row < s->images * s->rows; row++) {
            const int32_t *plane = symbols + plane_of(s, t, row / s->rows, channel);
            for (Py_ssize_t column = 0; column < s->columns; column++, out++) {
                const int32_t value = kind ? value_at(plane, kind, row % s->rows, column, s->columns)
                                           : plane[row % s->rows * s->columns + column];
                const int32_t magnitude = value < 0 ? -value : value;
                *out = (uint8_t)(magnitude > radius ? 2 * radius + 1 : 2 * magnitude - (value > 0));
                any |= *out;
            }
        }
        if (any)
            s->count = channel + 1;
    }
}

/* The numbers of the escape list, in the order of decoding: returns how many, and writes them if `out` is not NULL. */
static Py_ssize_t list_escapes(const Context *s, const Tables *t, const int32_t *symbols, const int64_t *bounds,
                               Py_ssize_t streams, uint32_t *out)
{
    Py_ssize_t number = 0;
    for (Py_ssize_t stream = 0; stream < streams; stream++)
        for (Py_ssize_t channel = 0; channel < s->count; channel++)
            for (Py_ssize_t i = bounds[stream]; i < bounds[stream + 1]; i++) {
                const int32_t radius = t->radius[channel];
                if (s->index[channel * s->positions + i] != 2 * radius + 1)
                    continue;
                if (out) {
                    const Py_ssize_t row = i / s->columns;
                    const int32_t *plane = symbols + plane_of(s, t, row / s->rows, channel);
                    const int32_t value = value_at(plane, t->difference[channel], row % s->rows, i % s->columns, s->columns);
                    out[number] = (uint32_t)(value < 0 ? 2 * (-radius - value) - 1 : 2 * (value - radius - 1));
                }
                number++;
            }
    return number;
}

/* The symbols of the index and the escape list; returns whether these are as many as there are escapes, and in range. */
static int give(const Context *s, const Tables *t, const int64_t *bounds, Py_ssize_t streams, const uint32_t *escapes,
                Py_ssize_t number, int32_t *symbols)
{
    const Py_ssize_t size = s->rows * s->columns;
    Py_ssize_t used = 0;
    for (Py_ssize_t channel = 0; channel < t->channels; channel++)
        for (Py_ssize_t image = 0; image < s->images; image++) {
            const uint8_t *index = s->index + channel * s->positions + image * size;
            int32_t *plane = symbols + plane_of(s, t, image, channel);
            if (channel >= s->count)
                memset(plane, 0, (size_t)size * sizeof(int32_t));
            else
                for (Py_ssize_t i = 0; i < size; i++)
                    plane[i] = index[i] & 1 ? (index[i] + 1) / 2 : -(index[i] / 2);
        }
    for (Py_ssize_t stream = 0; stream < streams; stream++)
        for (Py_ssize_t channel = 0; channel < s->count; channel++)
            for (Py_ssize_t i = bounds[stream]; i < bounds[stream + 1]; i++) {
                const int32_t radius = t->radius[channel];
                if (s->index[channel * s->positions + i] != 2 * radius + 1)
                    continue;
                if (used == number || escapes[used] > 4 * (uint32_t)MAX_SYMBOL)
                    return 0;
                const int32_t half = (int32_t)(escapes[used] / 2);
                const int below = escapes[used++] & 1;
                symbols[plane_of(s, t, i / size, channel) + i % size] = below ? -radius - half - 1 : radius + 1 + half;
            }
    for (Py_ssize_t channel = 0; channel < s->count; channel++)
        for (Py_ssize_t image = 0; image < s->images; image++) {
            int32_t *at = symbols + plane_of(s, t, image, channel);
            const int kind = t->difference[channel];
            for (Py_ssize_t row = 0; row < s->rows; row++)
                for (Py_ssize_t column = 0; column < s->columns; column++, at++) {
                    if ((kind == LEFT && column) || (kind == UP && !row && column))
                        *at += at[-1];
                    else if (kind && row)
                        *at += at[-s->columns];
                    if (*at < -MAX_SYMBOL || *at > MAX_SYMBOL)
                        return 0;
                }
        }
    return used == number;
}

/* The arguments of a call: its buffers, which `release` gives back, and what they hold. */
enum {
    SYMBOLS, BOUNDS, ORDER, DIFFERENCE, RADIUS, WEIGHT, THRESHOLD, TABLE, CUMULATIVE, RECIPROCAL, WORDS, ENDS, ESCAPES, BUFFERS
};
#define GEOMETRY_AND_TABLES "nnnny*y*y*y*y*y*y*y*" /* no inner tuple, whose buffers CPython's parser has no room to release */
#define TABLES_OF(b) \
    &b[ORDER], &b[DIFFERENCE], &b[RADIUS], &b[WEIGHT], &b[THRESHOLD], &b[TABLE], &b[CUMULATIVE], &b[RECIPROCAL]

static void release(Py_buffer *b, int number)
{
    for (int i = 0; i < number; i++)
        if (b[i].obj)
            PyBuffer_Release(&b[i]);
}

static int largest(const Py_buffer *bytes)
{
    int most = 0;
    for (Py_ssize_t i = 0; i < bytes->len; i++)
        if (((const uint8_t *)bytes->buf)[i] > most)
            most = ((const uint8_t *)bytes->buf)[i];
    return most;
}

/* Whether all arrays have the sizes that the coder relies on. */
static int fits(const Py_buffer *b, Tables *t, Context *s, Py_ssize_t streams)
{
    const int64_t *bounds = b[BOUNDS].buf;
    t->order = b[ORDER].buf, t->difference = b[DIFFERENCE].buf, t->radius = b[RADIUS].buf;
    t->weight = b[WEIGHT].buf, t->threshold = b[THRESHOLD].buf, t->table = b[TABLE].buf;
    t->cumulative = b[CUMULATIVE].buf, t->reciprocal = b[RECIPROCAL].buf;
    t->channels = b[RADIUS].len;
    if (t->channels < 1 || b[TABLE].len % t->channels || t->entries < FEW)
        return 0;
    t->classes = b[TABLE].len / t->channels;
    if (b[ORDER].len != 4 * t->channels || b[DIFFERENCE].len != t->channels || t->classes > 256 ||
        (t->classes & (t->classes - 1)) != 0 || b[THRESHOLD].len != t->channels * (t->classes - 1) * 4 ||
        b[WEIGHT].len != (t->channels + LANES - 1) / LANES * t->channels * LANES * 4 ||
        2 * largest(&b[RADIUS]) + 2 > t->entries ||
        b[CUMULATIVE].len / 4 / t->entries <= largest(&b[TABLE]) || b[RECIPROCAL].len != 2 * b[CUMULATIVE].len)
        return 0;
    for (Py_ssize_t i = 0; i < t->channels; i++)
        if (t->order[i] < 0 || t->order[i] >= t->channels)
            return 0;
    if (s->images < 1 || s->rows < 1 || s->columns < 1 || s->images > PTRDIFF_MAX / s->rows ||
        s->images * s->rows > PTRDIFF_MAX / s->columns)
        return 0;
    s->positions = s->images * s->rows * s->columns;
    if (s->positions > PTRDIFF_MAX / 4 / t->channels || b[SYMBOLS].len != 4 * s->positions * t->channels || streams < 1 ||
        b[BOUNDS].len != 8 * (streams + 1) || bounds[0] != 0 || bounds[streams] != s->positions)
        return 0;
    for (Py_ssize_t i = 0; i < streams; i++)
        if (bounds[i] > bounds[i + 1])
            return 0;
    return 1;
}

PyDoc_STRVAR(encode_doc, "encode(symbols, bounds, images, rows, columns, entries, tables): streams, coded channels, escapes");

static PyObject *encode(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[BUFFERS] = {{0}};
    Tables t = {0};
    Context s = {0};
    uint8_t *chosen = NULL;
    unsigned char *words = NULL, **ends = NULL;
    uint32_t *escapes = NULL;
    Py_ssize_t number = 0;
    PyObject *result = NULL, *streams_of = NULL, *listed;
    if (!PyArg_ParseTuple(arguments, "y*y*" GEOMETRY_AND_TABLES, &b[SYMBOLS], &b[BOUNDS], &s.images, &s.rows, &s.columns,
                          &t.entries, TABLES_OF(b)))
        return NULL; /* the parser has released what it had taken */
    const Py_ssize_t streams = b[BOUNDS].len / 8 - 1;
    const int64_t *bounds = b[BOUNDS].buf;
    if (!fits(b, &t, &s, streams)) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes than the coder needs");
        goto done;
    }
    const size_t symbols = (size_t)t.channels * (size_t)s.positions;
    chosen = allocate(symbols, 1);
    words = allocate(symbols + 2 * (size_t)streams, 4); /* each index adds at most one word, and the last state two */
    ends = allocate((size_t)streams, sizeof(*ends));
    if (!chosen || !words || !ends || !context_init(&s, t.channels, t.channels)) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    take(&s, &t, b[SYMBOLS].buf);
    for (Py_ssize_t channel = 0; channel < s.count; channel++) {
        choose(&s, &t, channel, chosen + channel * s.positions);
        learn(&s, s.index + channel * s.positions, channel % LANES);
    }
    for (Py_ssize_t i = 0; i < streams; i++)
        ends[i] = push(&t, &s, chosen, bounds[i], bounds[i + 1], i ? ends[i - 1] : words);
    number = list_escapes(&s, &t, b[SYMBOLS].buf, bounds, streams, NULL);
    escapes = allocate((size_t)number, sizeof(*escapes));
    if (escapes && number)
        list_escapes(&s, &t, b[SYMBOLS].buf, bounds, streams, escapes);
    Py_END_ALLOW_THREADS
    if (!escapes) {
        PyErr_NoMemory();
        goto done;
    }
    streams_of = PyTuple_New(streams);
    for (Py_ssize_t i = 0; i < streams && streams_of; i++) {
        const unsigned char *start = i ? ends[i - 1] : words;
        PyObject *stream = PyBytes_FromStringAndSize((const char *)start, ends[i] - start);
        if (!stream || PyTuple_SetItem(streams_of, i, stream))
            Py_CLEAR(streams_of);
    }
    /* No format with '#': what the headers of 3.13 make of it fails in 3.11 and 3.12, for which the same wheel serves. */
    listed = PyBytes_FromStringAndSize((const char *)escapes, number * (Py_ssize_t)sizeof(*escapes));
    if (streams_of && listed)
        result = Py_BuildValue("OnO", streams_of, s.count, listed);
    Py_XDECREF(streams_of);
    Py_XDECREF(listed);
done:
    context_free(&s);
    free(chosen);
    free(words);
    free(ends);
    free(escapes);
    release(b, BUFFERS);
    return result;
}

PyDoc_STRVAR(decode_doc, "decode(words, ends, escapes, count, symbols, bounds, images, rows, columns, entries, tables): "
                         "fill symbols; False if the streams or the escapes are damaged");

static PyObject *decode(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[BUFFERS] = {{0}};
    Tables t = {0};
    Context s = {0};
    uint8_t *chosen = NULL;
    Stream *coders = NULL;
    PyObject *result = NULL;
    int intact = 1;
    if (!PyArg_ParseTuple(arguments, "y*y*y*nw*y*" GEOMETRY_AND_TABLES, &b[WORDS], &b[ENDS], &b[ESCAPES], &s.count, &b[SYMBOLS],
                          &b[BOUNDS], &s.images, &s.rows, &s.columns, &t.entries, TABLES_OF(b)))
        return NULL;
    const Py_ssize_t streams = b[BOUNDS].len / 8 - 1;
    const int64_t *bounds = b[BOUNDS].buf, *ends = b[ENDS].buf;
    int usable = fits(b, &t, &s, streams) && s.count >= 0 && s.count <= t.channels && b[ENDS].len == 8 * streams;
    for (Py_ssize_t i = 0; i < streams && usable; i++) {
        const int64_t start = i ? ends[i - 1] : 0;
        usable = start <= ends[i] && ends[i] <= b[WORDS].len && (ends[i] - start) % 4 == 0;
    }
    if (!usable) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes than the coder needs");
        goto done;
    }
    chosen = allocate((size_t)s.positions, 1);
    coders = allocate((size_t)streams, sizeof(*coders));
    if (!chosen || !coders || !context_init(&s, t.channels, t.channels)) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < streams; i++) {
        const int64_t start = i ? ends[i - 1] : 0;
        coders[i] = open_stream((const unsigned char *)b[WORDS].buf + start, (Py_ssize_t)(ends[i] - start) / 4);
    }
    for (Py_ssize_t channel = 0; channel < s.count; channel++) {
        choose(&s, &t, channel, chosen);
        for (Py_ssize_t i = 0; i < streams; i++)
            pull(&coders[i], &t, channel, chosen, s.index + channel * s.positions, bounds[i], bounds[i + 1]);
        learn(&s, s.index + channel * s.positions, channel % LANES);
    }
    for (Py_ssize_t i = 0; i < streams; i++)
        intact = intact && coders[i].state == 0 && coders[i].left == 0;
    intact = intact && give(&s, &t, bounds, streams, b[ESCAPES].buf, b[ESCAPES].len / 4, b[SYMBOLS].buf);
    Py_END_ALLOW_THREADS
    result = PyBool_FromLong(intact);
done:
    context_free(&s);
    free(chosen);
    free(coders);
    release(b, BUFFERS);
    return result;
}

/* Bits in context.

   Bits of -1 and 1 are in planes (images, channels, rows + 2 MARGIN, columns + 2 MARGIN) within a margin of zeros. `offset` says
   how many elements lie between a bit and each of its taps; that these are in the planes, and in an earlier step, is checked
   when tables are loaded (binary_context_tables.py). */

enum { MARGIN = 2, ROW_STEP = 2, CHANNEL_STEP = 4, CLASS_WIDTH = 7 };
enum { PLANES, OFFSET, TAP, BIAS, MASS, STREAM_WORDS, STREAM_ENDS, BIT_BUFFERS };

typedef struct {
    int8_t *planes;
    const int64_t *offset;  /* (channels, taps) */
    const int32_t *weight;  /* (channels, taps) */
    const int32_t *bias;    /* (channels,) */
    const uint32_t *mass;   /* (channels, classes): of a bit of 1 */
    Py_ssize_t images, channels, rows, columns, taps, classes;
} Bits;

/* Whether all arrays have the sizes that the coder relies on. */
static int bits_fit(const Py_buffer *b, Bits *t)
{
    t->planes = b[PLANES].buf, t->offset = b[OFFSET].buf, t->weight = b[TAP].buf, t->bias = b[BIAS].buf, t->mass = b[MASS].buf;
    t->channels = b[BIAS].len / 4;
    if (t->images < 1 || t->channels < 1 || t->rows < 1 || t->columns < 1 || t->rows > PTRDIFF_MAX / 64 / t->channels ||
        t->columns > PTRDIFF_MAX / 64 / t->channels / (t->rows + 2 * MARGIN) ||
        t->images > PTRDIFF_MAX / t->channels / (t->rows + 2 * MARGIN) / (t->columns + 2 * MARGIN))
        return 0;
    t->taps = b[TAP].len / 4 / t->channels, t->classes = b[MASS].len / 4 / t->channels;
    return b[PLANES].len == t->images * t->channels * (t->rows + 2 * MARGIN) * (t->columns + 2 * MARGIN) &&
           b[BIAS].len == 4 * t->channels && b[TAP].len == 4 * t->taps * t->channels &&
           b[OFFSET].len == 8 * t->taps * t->channels && t->classes > 0 && b[MASS].len == 4 * t->classes * t->channels;
}

/* The mass of a bit of 1, given the bits of earlier steps. */
static inline uint32_t mass_of(const Bits *t, Py_ssize_t channel, const int8_t *bit)
{
    const int64_t *offset = t->offset + channel * t->taps;
    const int32_t *weight = t->weight + channel * t->taps;
    int32_t sum = t->bias[channel];
    for (Py_ssize_t i = 0; i < t->taps; i++)
        sum += weight[i] * bit[offset[i]];
    const int32_t width = 1 << CLASS_WIDTH;
    Py_ssize_t class = (sum < 0 ? -((width - 1 - sum) / width) : sum / width) + t->classes / 2;
    class = class < 0 ? 0 : class >= t->classes ? t->classes - 1 : class;
    return t->mass[channel * t->classes + class];
}

/* The bits of a channel in a step are in rows `first` to `last`; each is at column step - CHANNEL_STEP channel - ROW_STEP row. */
static inline void rows_of(const Bits *t, Py_ssize_t step, Py_ssize_t channel, Py_ssize_t *first, Py_ssize_t *last)
{
    const Py_ssize_t left = step - CHANNEL_STEP * channel;
    *first = left < t->columns ? 0 : (left - t->columns) / ROW_STEP + 1;
    *last = left < 0 ? -1 : left / ROW_STEP < t->rows ? left / ROW_STEP : t->rows - 1;
}

static inline int8_t *bit_at(const Bits *t, Py_ssize_t step, Py_ssize_t channel, Py_ssize_t row, Py_ssize_t image)
{
    const Py_ssize_t column = step - CHANNEL_STEP * channel - ROW_STEP * row, width = t->columns + 2 * MARGIN;
    const Py_ssize_t plane = image * t->channels + channel;
    return t->planes + (plane * (t->rows + 2 * MARGIN) + row + MARGIN) * width + column + MARGIN;
}

static Py_ssize_t steps_of(const Bits *t)
{
    return ROW_STEP * (t->rows - 1) + t->columns + CHANNEL_STEP * (t->channels - 1);
}

static Py_ssize_t bits_of(const Bits *t, Py_ssize_t step)
{
    Py_ssize_t first, last, number = 0;
    for (Py_ssize_t channel = 0; channel < t->channels; channel++) {
        rows_of(t, step, channel, &first, &last);
        number += last < first ? 0 : last - first + 1;
    }
    return number * t->images;
}

/* The stream of a step before which there are `before` bits. */
static Py_ssize_t stream_of(const Bits *t, Py_ssize_t before, Py_ssize_t streams)
{
    const Py_ssize_t all = t->images * t->channels * t->rows * t->columns;
    return before / all * streams + (Py_ssize_t)((uint64_t)(before % all) * (uint64_t)streams / (uint64_t)all);
}

/* Decode the bits of a step. */
static void pull_bits(const Bits *t, Stream *from, Py_ssize_t step)
{
    Stream stream = *from;
    Py_ssize_t first, last;
    for (Py_ssize_t channel = 0; channel < t->channels && CHANNEL_STEP * channel <= step; channel++) {
        rows_of(t, step, channel, &first, &last);
        for (Py_ssize_t row = first; row <= last; row++)
            for (Py_ssize_t image = 0; image < t->images; image++) {
                int8_t *bit = bit_at(t, step, channel, row, image);
                const uint32_t mass = mass_of(t, channel, bit), rest = (uint32_t)stream.state & (TOTAL - 1);
                const int one = rest >= TOTAL - mass;
                *bit = one ? 1 : -1;
                stream.state = (stream.state >> 24) * (one ? mass : TOTAL - mass) + rest - (one ? TOTAL - mass : 0);
                if (stream.state >> 32 == 0 && stream.left)
                    stream.state = stream.state << 32 | read_word(stream.words + 4 * --stream.left);
            }
    }
    *from = stream;
}

/* Encode the bits of a step, the last one first; returns the end of the words. */
static unsigned char *push_bits(const Bits *t, Py_ssize_t step, uint64_t *to, unsigned char *out)
{
    uint64_t state = *to;
    Py_ssize_t first, last;
    for (Py_ssize_t channel = t->channels - 1; channel >= 0; channel--) {
        rows_of(t, step, channel, &first, &last);
        for (Py_ssize_t row = last; row >= first; row--)
            for (Py_ssize_t image = t->images - 1; image >= 0; image--) {
                const int8_t *bit = bit_at(t, step, channel, row, image);
                const uint32_t one = mass_of(t, channel, bit), mass = *bit > 0 ? one : TOTAL - one;
                if (state >= (uint64_t)mass << 40) {
                    out = write_word(out, state);
                    state >>= 32;
                }
                state = (state / mass << 24) + state % mass + (*bit > 0 ? TOTAL - one : 0);
            }
    }
    *to = state;
    return out;
}

PyDoc_STRVAR(encode_bits_doc, "encode_bits(streams, planes, images, rows, columns, offset, weight, bias, mass): the streams");

static PyObject *encode_bits(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[BIT_BUFFERS] = {{0}};
    Bits t = {0};
    Py_ssize_t streams;
    PyObject *result = NULL;
    unsigned char *words = NULL, **ends = NULL;
    if (!PyArg_ParseTuple(arguments, "ny*nnny*y*y*y*", &streams, &b[PLANES], &t.images, &t.rows, &t.columns, &b[OFFSET], &b[TAP],
                          &b[BIAS], &b[MASS]))
        return NULL;
    if (!bits_fit(b, &t) || streams < 1 || streams > b[PLANES].len) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes than the coder needs");
        goto done;
    }
    words = allocate((size_t)b[PLANES].len + 2 * (size_t)streams, 4); /* each bit adds at most one word, each last state two */
    ends = allocate((size_t)streams + 1, sizeof(*ends));
    if (!words || !ends) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS /* ends[i + 1] to ends[i] - 1 are the words of stream i: the last stream is coded first */
    unsigned char *out = words;
    uint64_t state = 0;
    Py_ssize_t before = t.images * t.channels * t.rows * t.columns, current = streams;
    ends[streams] = words;
    for (Py_ssize_t step = steps_of(&t) - 1; step >= 0; step--) {
        before -= bits_of(&t, step);
        for (const Py_ssize_t stream = stream_of(&t, before, streams); current > stream + 1; state = 0) {
            for (; state; state >>= 32)
                out = write_word(out, state);
            ends[--current] = out;
        }
        out = push_bits(&t, step, &state, out);
    }
    for (; state; state >>= 32)
        out = write_word(out, state);
    ends[0] = out;
    Py_END_ALLOW_THREADS
    result = PyTuple_New(streams);
    for (Py_ssize_t i = 0; i < streams && result; i++) {
        PyObject *stream = PyBytes_FromStringAndSize((const char *)ends[i + 1], ends[i] - ends[i + 1]);
        if (!stream || PyTuple_SetItem(result, i, stream))
            Py_CLEAR(result);
    }
done:
    free(words);
    free(ends);
    release(b, BIT_BUFFERS);
    return result;
}

PyDoc_STRVAR(decode_bits_doc, "decode_bits(words, ends, planes, images, rows, columns, offset, weight, bias, mass): "
                              "fill planes of zeros; False if the streams are damaged");

static PyObject *decode_bits(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[BIT_BUFFERS] = {{0}};
    Bits t = {0};
    PyObject *result = NULL;
    int intact = 1;
    if (!PyArg_ParseTuple(arguments, "y*y*w*nnny*y*y*y*", &b[STREAM_WORDS], &b[STREAM_ENDS], &b[PLANES], &t.images, &t.rows,
                          &t.columns, &b[OFFSET], &b[TAP], &b[BIAS], &b[MASS]))
        return NULL;
    const Py_ssize_t streams = b[STREAM_ENDS].len / 8;
    const int64_t *ends = b[STREAM_ENDS].buf;
    int usable = bits_fit(b, &t) && streams > 0 && b[STREAM_ENDS].len == 8 * streams;
    for (Py_ssize_t i = 0; i < streams && usable; i++) {
        const int64_t start = i ? ends[i - 1] : 0;
        usable = start <= ends[i] && ends[i] <= b[STREAM_WORDS].len && (ends[i] - start) % 4 == 0;
    }
    if (!usable) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes than the coder needs");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    const Py_ssize_t steps = steps_of(&t);
    Stream stream = {0};
    for (Py_ssize_t step = 0, before = 0, current = -1; intact && step <= steps; step++) {
        const Py_ssize_t wanted = step < steps ? stream_of(&t, before, streams) : streams;
        for (; intact && current < wanted; ) {
            intact = stream.state == 0 && stream.left == 0;
            if (++current < streams) {
                const int64_t start = current ? ends[current - 1] : 0;
                stream = open_stream((const unsigned char *)b[STREAM_WORDS].buf + start, (Py_ssize_t)(ends[current] - start) / 4);
            }
        }
        if (intact && step < steps) {
            pull_bits(&t, &stream, step);
            before += bits_of(&t, step);
        }
    }
    Py_END_ALLOW_THREADS
    result = PyBool_FromLong(intact);
done:
    release(b, BIT_BUFFERS);
    return result;
}

/* Layered coding: the symbols `low` of a layer are refined to those of the next, `high`; both are (images, M, rows, columns).

   Channels are predicted in blocks of up to LANES of one group, from the layer below and the groups before. Lists of positions
   have both: number j is channel j of the layer below, and number M + j of this one. */

#define STEADY ((uint32_t)1 << 31) /* in a mass: of a symbol that is not 0 in the layer below; then entry 2 has mass 1 */
enum { SIZES = 3 };                /* magnitudes from this one on have the same mass */
enum { LOW, HIGH, LAYER_ORDER, GROUP, FACTOR, LEVEL, ENTRY_MASS, LAYER_WORDS, LAYER_BUFFERS };

typedef struct {
    const int32_t *order;  /* (M,): the channels in coding order; all other arrays are in this order */
    const int32_t *group;  /* (groups + 1,), ascending: the first channel of each group, and M */
    const int16_t *factor; /* (blocks, 2 M, LANES, 2): of magnitude and 3x3 sum; each group has blocks of its own */
    const int32_t *level;  /* (M, classes - 1), ascending; classes is a power of two */
    const uint32_t *mass;  /* (M, classes + SIZES): of entry 0 in each class, and at each magnitude with STEADY */
    Py_ssize_t channels, groups, classes;
} Refinement;

/* Whether all arrays have the sizes that the coder relies on. */
static int layer_fits(const Py_buffer *b, Refinement *t, Context *s)
{
    t->order = b[LAYER_ORDER].buf, t->group = b[GROUP].buf, t->factor = b[FACTOR].buf, t->level = b[LEVEL].buf;
    t->mass = b[ENTRY_MASS].buf;
    t->channels = b[LAYER_ORDER].len / 4, t->groups = b[GROUP].len / 4 - 1;
    if (t->channels < 1 || t->groups < 1 || t->group[0] != 0 || t->group[t->groups] != t->channels)
        return 0;
    t->classes = b[ENTRY_MASS].len / 4 / t->channels - SIZES;
    if (t->classes < 1 || t->classes > 256 || (t->classes & (t->classes - 1)) != 0 ||
        b[ENTRY_MASS].len != 4 * t->channels * (t->classes + SIZES) || b[LEVEL].len != 4 * t->channels * (t->classes - 1))
        return 0;
    Py_ssize_t blocks = 0;
    for (Py_ssize_t i = 0; i < t->groups; i++) {
        if (t->group[i] >= t->group[i + 1])
            return 0;
        blocks += (t->group[i + 1] - t->group[i] + LANES - 1) / LANES;
    }
    if (b[FACTOR].len / (8 * LANES) / t->channels != blocks || b[FACTOR].len != 8 * LANES * t->channels * blocks)
        return 0;
    for (Py_ssize_t i = 0; i < t->channels; i++)
        if (t->order[i] < 0 || t->order[i] >= t->channels)
            return 0;
    for (Py_ssize_t i = 0; i < t->channels * (t->classes + SIZES); i++) {
        const uint32_t mass = t->mass[i] & ~STEADY;
        if (mass < 2 || mass > TOTAL - 2)
            return 0;
    }
    if (s->images < 1 || s->rows < 1 || s->columns < 1 || s->images > PTRDIFF_MAX / s->rows ||
        s->images * s->rows > PTRDIFF_MAX / s->columns)
        return 0;
    s->positions = s->images * s->rows * s->columns;
    return s->positions <= PTRDIFF_MAX / 4 / t->channels && b[LOW].len == 4 * s->positions * t->channels &&
           b[HIGH].len == b[LOW].len;
}

static inline Py_ssize_t layer_plane(const Context *s, const Refinement *t, Py_ssize_t image, Py_ssize_t channel)
{
    return (image * t->channels + t->order[channel]) * s->rows * s->columns;
}

/* The number of channels up to the last one that is not 0 everywhere; `used` becomes the number of those that are not. */
static Py_ssize_t filled_channels(const Context *s, const Refinement *t, const int32_t *symbols, Py_ssize_t *used)
{
    Py_ssize_t count = 0;
    *used = 0;
    for (Py_ssize_t channel = 0; channel < t->channels; channel++) {
        int32_t any = 0;
        for (Py_ssize_t image = 0; image < s->images; image++) {
            const int32_t *plane = symbols + layer_plane(s, t, image, channel);
            for (Py_ssize_t i = 0; i < s->rows * s->columns; i++)
                any |= plane[i];
        }
        *used += any != 0;
        count = any ? channel + 1 : count;
    }
    return count;
}

/* Append the features of channels [first, last) to the lists, where channel 0 has this number; returns whether symbols are in
   range. */
static int know(Context *s, const Refinement *t, const int32_t *symbols, Py_ssize_t first, Py_ssize_t last, Py_ssize_t number)
{
    const Py_ssize_t size = s->rows * s->columns;
    uint32_t at[LANES];
    Py_ssize_t waiting = 0; /* channels in the block; those that are 0 everywhere are left out */
    int intact = 1;
    for (Py_ssize_t channel = first; channel < last; channel++) {
        int32_t most = 0;
        for (Py_ssize_t image = 0; image < s->images; image++) {
            const int32_t *plane = symbols + layer_plane(s, t, image, channel);
            uint8_t *index = s->index + image * size;
            for (Py_ssize_t i = 0; i < size; i++) {
                const int32_t magnitude = plane[i] < 0 ? -plane[i] : plane[i];
                index[i] = (uint8_t)(2 * (magnitude < CLIP ? magnitude : CLIP));
                most = magnitude > most ? magnitude : most;
            }
        }
        intact = intact && most <= MAX_SYMBOL;
        if (most) {
            learn(s, s->index, waiting);
            at[waiting++] = (uint32_t)(2 * LANES * (number + channel));
        }
        if (waiting == LANES || channel == last - 1) {
            for (Py_ssize_t i = 0; i < s->positions; i++)
                append(s, i, at, waiting);
            waiting = 0;
        }
    }
    return intact;
}

/* The mass of entry 0 at each position of a plane; inlined with a constant number of classes. */
static inline void choose_masses(const int32_t *low, const int32_t *predictions, const int32_t *level, const uint32_t *mass,
                                 Py_ssize_t classes, Py_ssize_t size, uint32_t *chosen)
{
    for (Py_ssize_t i = 0; i < size; i++) {
        const int32_t magnitude = low[i] < 0 ? -low[i] : low[i];
        const Py_ssize_t class = reached(level, classes, predictions[i * LANES]);
        chosen[i] = mass[magnitude ? classes - 1 + (magnitude < SIZES ? magnitude : SIZES) : class];
    }
}

static void plane_masses(const Context *s, const Refinement *t, Py_ssize_t channel, Py_ssize_t lane, Py_ssize_t image,
                         const int32_t *low, uint32_t *chosen)
{
    const Py_ssize_t size = s->rows * s->columns;
    const int32_t *predictions = s->predictions + image * size * LANES + lane, *level = t->level + channel * (t->classes - 1);
    const uint32_t *mass = t->mass + channel * (t->classes + SIZES);
    if (t->classes == 32)
        choose_masses(low, predictions, level, mass, 32, size, chosen);
    else
        choose_masses(low, predictions, level, mass, t->classes, size, chosen);
}

/* Predict a block from the lists. */
static void predict_block(Context *s, const int16_t *factor)
{
    for (Py_ssize_t i = 0; i < s->positions; i++)
        sum_known(s->predictions + i * LANES, factor, s->known + i * s->stride, s->filled[i]);
}

/* Where entry 2 begins. */
static inline uint32_t last_entry(uint32_t mass)
{
    const uint32_t zero = mass & ~STEADY;
    return mass & STEADY ? TOTAL - 1 : zero + (TOTAL - zero) / 2;
}

/* Decode a plane; returns whether no entry is one that no encoder writes. */
static int pull_plane(Stream *from, const uint32_t *masses, const int32_t *low, int32_t *high, Py_ssize_t size)
{
    uint64_t state = from->state;
    const unsigned char *word = from->words + 4 * from->left;
    int intact = 1;
    for (Py_ssize_t i = 0; i < size; i++) {
        const uint32_t rest = (uint32_t)state & (TOTAL - 1), zero = masses[i] & ~STEADY, last = last_entry(masses[i]);
        const int one = rest >= zero, two = rest >= last;
        const uint32_t below = two ? last : one ? zero : 0, end = two ? TOTAL : one ? last : zero;
        state = (uint64_t)(end - below) * (state >> 24) + (rest - below);
        if (state >> 32 == 0 && word > from->words) {
            word -= 4;
            state = state << 32 | read_word(word);
        }
        const int32_t value = 2 * low[i];
        high[i] = value + ((value < 0) | two ? -one : one);
        intact &= !(two & (value != 0));
    }
    from->state = state;
    from->left = (word - from->words) / 4;
    return intact;
}

/* Encode a plane, its last position first; returns the end of the words. */
static unsigned char *push_plane(uint64_t *to, const uint32_t *masses, const int32_t *low, const int32_t *high, Py_ssize_t size,
                                 unsigned char *out)
{
    uint64_t state = *to;
    for (Py_ssize_t i = size - 1; i >= 0; i--) {
        const uint32_t zero = masses[i] & ~STEADY, last = last_entry(masses[i]);
        const int one = low[i] ? high[i] & 1 : high[i] != 0, two = !low[i] && high[i] < 0;
        const uint32_t below = two ? last : one ? zero : 0, mass = (two ? TOTAL : one ? last : zero) - below;
        if (state >= (uint64_t)mass << 40) {
            out = write_word(out, state);
            state >>= 32;
        }
        state = (state / mass << 24) + state % mass + below;
    }
    *to = state;
    return out;
}

/* The masses (count, P) of all entries; where there is a stream, it also decodes `high`. Returns whether that is intact. */
static int refine(Context *s, const Refinement *t, const int32_t *low, int32_t *high, Stream *stream, uint32_t *masses)
{
    const Py_ssize_t size = s->rows * s->columns;
    const int16_t *factor = t->factor;
    know(s, t, low, 0, t->channels, 0);
    for (Py_ssize_t group = 0; group < t->groups && t->group[group] < s->count; group++) {
        const Py_ssize_t first = t->group[group], last = t->group[group + 1] < s->count ? t->group[group + 1] : s->count;
        for (Py_ssize_t channel = first; channel < last; channel++) {
            const Py_ssize_t lane = (channel - first) % LANES;
            if (!lane) {
                predict_block(s, factor);
                factor += 4 * t->channels * LANES;
            }
            for (Py_ssize_t image = 0; image < s->images; image++, masses += size) {
                const Py_ssize_t plane = layer_plane(s, t, image, channel);
                plane_masses(s, t, channel, lane, image, low + plane, masses);
                if (stream && !pull_plane(stream, masses, low + plane, high + plane, size))
                    return 0;
            }
        }
        if (!know(s, t, high, first, last, t->channels) && stream)
            return 0;
    }
    return !stream || (stream->state == 0 && stream->left == 0);
}

#define REFINEMENT_OF(b) &b[LAYER_ORDER], &b[GROUP], &b[FACTOR], &b[LEVEL], &b[ENTRY_MASS]

PyDoc_STRVAR(encode_layer_doc, "encode_layer(low, high, images, rows, columns, tables): coded channels, words");

static PyObject *encode_layer(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[LAYER_BUFFERS] = {{0}};
    Refinement t = {0};
    Context s = {0};
    uint32_t *masses = NULL;
    unsigned char *words = NULL, *out = NULL;
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*nnny*y*y*y*y*", &b[LOW], &b[HIGH], &s.images, &s.rows, &s.columns, REFINEMENT_OF(b)))
        return NULL;
    if (!layer_fits(b, &t, &s)) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes or values than the coder needs");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    const int32_t *low = b[LOW].buf, *high = b[HIGH].buf;
    const Py_ssize_t size = s.rows * s.columns;
    Py_ssize_t used, filled;
    uint64_t state = 0;
    filled_channels(&s, &t, low, &used);
    s.count = filled_channels(&s, &t, high, &filled);
    masses = allocate((size_t)(s.count * s.positions), sizeof(*masses));
    words = allocate((size_t)(s.count * s.positions) + 2, 4); /* each entry adds at most one word, and the last state two */
    if (masses && words && context_init(&s, 1, used + filled)) {
        refine(&s, &t, low, b[HIGH].buf, NULL, masses);
        out = words;
        for (Py_ssize_t channel = s.count - 1; channel >= 0; channel--)
            for (Py_ssize_t image = s.images - 1; image >= 0; image--) {
                const Py_ssize_t plane = layer_plane(&s, &t, image, channel);
                out = push_plane(&state, masses + channel * s.positions + image * size, low + plane, high + plane, size, out);
            }
        for (; state; state >>= 32)
            out = write_word(out, state);
    }
    Py_END_ALLOW_THREADS
    if (!out) {
        PyErr_NoMemory();
        goto done;
    }
    PyObject *coded = PyBytes_FromStringAndSize((const char *)words, out - words);
    if (coded)
        result = Py_BuildValue("nO", s.count, coded);
    Py_XDECREF(coded);
done:
    context_free(&s);
    free(masses);
    free(words);
    release(b, LAYER_BUFFERS);
    return result;
}

PyDoc_STRVAR(decode_layer_doc, "decode_layer(words, count, low, high, images, rows, columns, tables): "
                               "fill high; False if the words are damaged");

static PyObject *decode_layer(PyObject *Py_UNUSED(self), PyObject *arguments)
{
    Py_buffer b[LAYER_BUFFERS] = {{0}};
    Refinement t = {0};
    Context s = {0};
    uint32_t *masses = NULL;
    PyObject *result = NULL;
    int intact, ready;
    if (!PyArg_ParseTuple(arguments, "y*ny*w*nnny*y*y*y*y*", &b[LAYER_WORDS], &s.count, &b[LOW], &b[HIGH], &s.images, &s.rows,
                          &s.columns, REFINEMENT_OF(b)))
        return NULL;
    const Py_ssize_t number = b[LAYER_WORDS].len / 4;
    if (!layer_fits(b, &t, &s) || s.count < 0 || s.count > t.channels || b[LAYER_WORDS].len != 4 * number) {
        PyErr_SetString(PyExc_ValueError, "arrays have other sizes or values than the coder needs");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    Py_ssize_t used;
    Stream stream = open_stream(b[LAYER_WORDS].buf, number);
    intact = filled_channels(&s, &t, b[LOW].buf, &used) <= s.count;
    masses = allocate((size_t)(s.count * s.positions), sizeof(*masses));
    ready = masses && context_init(&s, 1, used + s.count);
    if (ready && intact) {
        memset(b[HIGH].buf, 0, (size_t)b[HIGH].len);
        intact = refine(&s, &t, b[LOW].buf, b[HIGH].buf, &stream, masses);
    }
    Py_END_ALLOW_THREADS
    if (!ready) {
        PyErr_NoMemory();
        goto done;
    }
    result = PyBool_FromLong(intact);
done:
    context_free(&s);
    free(masses);
    release(b, LAYER_BUFFERS);
    return result;
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, encode_doc},
    {"decode", decode, METH_VARARGS, decode_doc},
    {"encode_bits", encode_bits, METH_VARARGS, encode_bits_doc},
    {"decode_bits", decode_bits, METH_VARARGS, decode_bits_doc},
    {"encode_layer", encode_layer, METH_VARARGS, encode_layer_doc},
    {"decode_layer", decode_layer, METH_VARARGS, decode_layer_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "caecodec.entropy._coder", "Context coding and layered coding in C.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__coder(void)
{
#ifdef AVX2
    has_avx2 = __builtin_cpu_supports("avx2");
#endif
    return PyModuleDef_Init(&module);
}
