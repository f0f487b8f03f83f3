/* As much msgpack as the load generator writes and reads. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t put_u32(uint8_t *to, uint32_t value) { /* msgpack uint32 */
    to[0] = 0xCE;
    to[1] = (uint8_t)(value >> 24), to[2] = (uint8_t)(value >> 16), to[3] = (uint8_t)(value >> 8), to[4] = (uint8_t)value;
    return 5;
}

static size_t put_double(uint8_t *to, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    to[0] = 0xCB;
    for (int i = 0; i < 8; i++) to[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    return 9;
}

static size_t put_text(uint8_t *to, const char *text) {
    size_t size = strlen(text);
    if (size < 32) {
        to[0] = (uint8_t)(0xA0 | size);
        memcpy(to + 1, text, size);
        return 1 + size;
    }
    to[0] = 0xDA, to[1] = (uint8_t)(size >> 8), to[2] = (uint8_t)size;
    memcpy(to + 3, text, size);
    return 3 + size;
}

static uint64_t big_endian(const uint8_t *at, int size) {
    uint64_t value = 0;
    while (size-- > 0) value = value << 8 | *at++;
    return value;
}

/* Where the value that begins here ends. */
static const uint8_t *skip(const uint8_t *at) {
    static const uint8_t sizes[32] = { /* after 0xC0: bytes of the value, or of its length */
        0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, 1, 2, 4, 2, 4, 2, 4,
    };
    uint8_t first = *at++;
    uint64_t values = 0;
    if (first < 0x80 || first >= 0xE0) return at;
    if (first < 0x90) values = 2 * (uint64_t)(first & 0x0F);
    else if (first < 0xA0) values = first & 0x0F;
    else if (first < 0xC0) return at + (first & 0x1F);
    else {
        int size = sizes[first - 0xC0];
        if (first >= 0xDC) values = big_endian(at, size) * (first >= 0xDE ? 2 : 1);
        else if (first >= 0xD9 || (first >= 0xC4 && first <= 0xC6)) size += (int)big_endian(at, size);
        else if (first >= 0xC7 && first <= 0xC9) size += 1 + (int)big_endian(at, size);
        at += size;
    }
    while (values-- > 0) at = skip(at);
    return at;
}

static const uint8_t *skip_fields(const uint8_t *at, int fields) {
    while (fields-- > 0) at = skip(at);
    return at;
}

static uint64_t array_length(const uint8_t *at) {
    return at[0] == 0xDC ? big_endian(at + 1, 2) : at[0] == 0xDD ? big_endian(at + 1, 4) : at[0] & 0x0F;
}

static uint32_t read_uint(const uint8_t *at) {
    if (at[0] < 0x80) return at[0];
    if (at[0] == 0xCC) return at[1];
    if (at[0] == 0xCD) return (uint32_t)at[1] << 8 | at[2];
    if (at[0] == 0xCE) return (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | at[4];
    fprintf(stderr, "load: an unsigned integer was expected, not 0x%02x\n", at[0]);
    exit(1);
}

/* The number of an action is its place in the list `actions` of the answer to the join; names here are short strings. */
static int find_action(const uint8_t *payload, size_t size, const char *name) {
    const uint8_t *end = payload + size, *at = memmem(payload, size, "\xA7" "actions", 8);
    if (at == NULL || at + 9 >= end) return -1;
    int length = at[8] & 0x0F;
    at += 9;
    for (int i = 0; i < length && at < end; i++) {
        size_t chars = at[0] & 0x1F;
        if (chars == strlen(name) && memcmp(at + 1, name, chars) == 0) return i;
        at += 1 + chars;
    }
    return -1;
}
