/* Bytes and commands: what a message holds, in RESP or as lines of words. Limits and texts are those of Redis 7.0. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "module.h"

enum { ARGUMENTS_MAX = 1024 * 1024, LINE_MAX_BYTES = 64 * 1024, QUOTED_MAX = 128 };
static const long long ARGUMENT_MAX = 512ll << 20;

void bytes_add(Bytes *to, const void *from, size_t length) {
    if (to->room - to->length < length) {
        size_t room = to->room * 2 > to->length + length ? to->room * 2 : to->length + length + 256;
        to->bytes = RedisModule_Realloc(to->bytes, room);
        to->room = room;
    }
    if (length > 0) memcpy(to->bytes + to->length, from, length);
    to->length += length;
}

void bytes_text(Bytes *to, const char *text) {
    bytes_add(to, text, strlen(text));
}

void bytes_format(Bytes *to, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0) bytes_add(to, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

void bytes_free(Bytes *bytes) {
    RedisModule_Free(bytes->bytes);
    memset(bytes, 0, sizeof *bytes);
}

void bytes_quoted(Bytes *to, RedisModuleString *argument) {
    size_t length;
    const char *bytes = RedisModule_StringPtrLen(argument, &length);
    if (length > QUOTED_MAX) length = QUOTED_MAX;
    for (size_t n = 0; n < length; n++) {
        char byte = bytes[n] == '\r' || bytes[n] == '\n' || bytes[n] == 0 ? ' ' : bytes[n];
        bytes_add(to, &byte, 1);
    }
}

bool is_word(RedisModuleString *argument, const char *word) {
    size_t length;
    const char *bytes = RedisModule_StringPtrLen(argument, &length);
    return length == strlen(word) && strncasecmp(bytes, word, length) == 0;
}

static void args_add(Args *args, const uint8_t *bytes, size_t length) {
    if (args->argc == args->room) {
        args->room = args->room ? args->room * 2 : 8;
        args->argv = RedisModule_Realloc(args->argv, args->room * sizeof *args->argv);
    }
    args->argv[args->argc++] = RedisModule_CreateString(NULL, (const char *)bytes, length);
}

static void args_clear(Args *args) {
    for (size_t n = 0; n < args->argc; n++) RedisModule_FreeString(NULL, args->argv[n]);
    args->argc = 0;
}

void args_free(Args *args) {
    args_clear(args);
    RedisModule_Free(args->argv);
    memset(args, 0, sizeof *args);
}

/* The number of a line that ends with \r\n, moved past it. False when the line is no number or not whole; `*whole` says which. */
static bool number(const uint8_t **from, const uint8_t *end, long long *out, bool *whole) {
    const uint8_t *at = *from, *line = memchr(at, '\r', (size_t)(end - at));
    *whole = line != NULL && line + 1 < end;
    if (!*whole) return false;
    bool negative = at < line && *at == '-';
    long long value = 0;
    at += negative;
    if (at == line || line - at > 18) return false;
    for (; at < line; at++) {
        if (!isdigit(*at)) return false;
        value = value * 10 + (*at - '0');
    }
    *out = negative ? -value : value;
    *from = line + 2;
    return true;
}

/* A line of words, as people type them. */
static enum parsed parse_line(const uint8_t **from, const uint8_t *end, Args *args, const char **why) {
    const uint8_t *at = *from, *line = memchr(at, '\n', (size_t)(end - at));
    if ((size_t)((line ? line : end) - at) > LINE_MAX_BYTES) {
        *why = "Protocol error: too big inline request";
        return PARSED_WRONG;
    }
    if (!line) return PARSED_INCOMPLETE;
    *from = line + 1;
    while (at < line) {
        if (isspace(*at)) {
            at++;
            continue;
        }
        bool quoted = *at == '"' || *at == '\'';
        uint8_t quote = *at;
        const uint8_t *word = at += quoted;
        while (at < line && (quoted ? *at != quote : !isspace(*at))) at++;
        if (quoted && (at == line || (at + 1 < line && !isspace(at[1])))) {
            *why = "Protocol error: unbalanced quotes in request";
            return PARSED_WRONG;
        }
        args_add(args, word, (size_t)(at - word));
        at += quoted;
    }
    return args->argc ? PARSED_COMMAND : PARSED_NOTHING;
}

enum parsed resp_parse(const uint8_t **from, const uint8_t *end, Args *args, const char **why) {
    args_clear(args);
    const uint8_t *at = *from;
    if (at == end) return PARSED_INCOMPLETE;
    if (*at != '*') return parse_line(from, end, args, why);
    long long count, length;
    bool whole;
    at++;
    if (!number(&at, end, &count, &whole) || count > ARGUMENTS_MAX) {
        *why = "Protocol error: invalid multibulk length";
        return whole || end - at > LINE_MAX_BYTES ? PARSED_WRONG : PARSED_INCOMPLETE;
    }
    for (long long n = 0; n < count; n++) {
        if (at == end) return PARSED_INCOMPLETE;
        if (*at != '$') {
            static char text[64];
            snprintf(text, sizeof text, "Protocol error: expected '$', got '%c'", isprint(*at) ? *at : '?');
            *why = text;
            return PARSED_WRONG;
        }
        at++;
        if (!number(&at, end, &length, &whole) || length < 0 || length > ARGUMENT_MAX) {
            *why = "Protocol error: invalid bulk length";
            return whole || end - at > LINE_MAX_BYTES ? PARSED_WRONG : PARSED_INCOMPLETE;
        }
        if (end - at < length + 2) return PARSED_INCOMPLETE;
        args_add(args, at, (size_t)length);
        at += length + 2;
    }
    *from = at;
    return args->argc ? PARSED_COMMAND : PARSED_NOTHING;
}
