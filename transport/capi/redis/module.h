/* What the parts of the module share. resp.c knows bytes, commands.c what becomes of a command, module.c sockets, turns and who waits. */
#ifndef SEALANE_REDIS_MODULE_H
#define SEALANE_REDIS_MODULE_H

#include <redismodule.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that grow. */
typedef struct {
    char *bytes;
    size_t length, room;
} Bytes;

void bytes_add(Bytes *to, const void *from, size_t length);
void bytes_text(Bytes *to, const char *text);
void bytes_format(Bytes *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bytes_free(Bytes *bytes);

/* One command: its arguments are Redis's strings. */
typedef struct {
    RedisModuleString **argv;
    size_t argc, room;
} Args;

enum parsed { PARSED_COMMAND, PARSED_NOTHING, PARSED_INCOMPLETE, PARSED_WRONG };

/* Takes the next command from `*from`, which moves on. Of what is wrong `*why` says the text of Redis. */
enum parsed resp_parse(const uint8_t **from, const uint8_t *end, Args *args, const char **why);
void args_free(Args *args);
/* Whether an argument is this word, in either case. */
bool is_word(RedisModuleString *argument, const char *word);
/* Longer arguments of errors are cut, and what would end the line is not repeated. */
void bytes_quoted(Bytes *to, RedisModuleString *argument);

/* What one session set up. One that set up nothing has none of its own. */
typedef struct {
    uint64_t client; /* its number; 0 as long as it has set up nothing */
    int version, db;
    char *user, *name; /* null: the default user, no name */
    long long seen_ms;
} Session;

void session_reset(Session *session);
bool session_is_plain(const Session *session);

/* Counted since the module was loaded. */
typedef struct {
    unsigned long long requests, commands, refused, bytes_in, bytes_out, waited, turns;
} Counts;
extern Counts counts;

void commands_init(RedisModuleCtx *ctx);
/* Whether the default user needs a password is looked at: that may change at any time. */
void commands_look_at_users(void);
/* A turn begins: users may have gone. */
void commands_forget_user(void);
/* Runs all commands of one message; their replies go to `out`. */
void commands_run(Session *session, const uint8_t *message, size_t length, Bytes *out);
/* Answers all of them with one error instead. */
void commands_refuse(const char *error, const uint8_t *message, size_t length, Bytes *out);

#endif
