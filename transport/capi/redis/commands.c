/* What becomes of a command: run by Redis, answered here because it is about the session, or refused because no module can carry it.
 * docs/REDIS.md has the table. Commands run through a detached context: only for those does Redis look at the memory limit as it is. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "module.h"

/* Bytes of replies in one response: a message may have 64 MiB. */
enum { REPLIES_MAX = 60 << 20, QUEUED_MAX = 1024 * 1024, NAMES = 256 };

Counts counts;

enum how { RUN, RUN_UNSCRIPTED, OWN, REFUSE };
typedef struct Run Run;
typedef void Answer(Run *run);

/* Every command that is not simply run. */
typedef struct {
    const char *name;
    enum how how;
    Answer *answer;
    const char *why;
} Special;

/* The commands of one message while they run. */
struct Run {
    Session *session;
    Bytes *out;
    Args args;
    bool multi, spoiled, over;
    Args *queued;
    size_t queued_count, queued_room;
};

static RedisModuleCtx *context;
static RedisModuleUser *acting; /* the user of `acting_name`, for this turn */
static char *acting_name;
static bool is_open; /* the default user needs no password */
static uint64_t clients;

static Answer auth, hello, select_db, client, multi, exec, discard, quit, reset;

#define NEVER_TOLD "Redis tells no module what is published"
#define NO_CONNECTION "it is about a connection, and there is none"
#define NO_WAITING "Redis lets no module's command wait"

static const Special SPECIAL[] = {
    {"auth", OWN, auth, NULL}, {"hello", OWN, hello, NULL}, {"select", OWN, select_db, NULL}, {"client", OWN, client, NULL},
    {"multi", OWN, multi, NULL}, {"exec", OWN, exec, NULL}, {"discard", OWN, discard, NULL}, {"quit", OWN, quit, NULL},
    {"reset", OWN, reset, NULL},
    /* Redis's mode for scripts refuses these, and its checks are in them or not theirs. */
    {"acl", RUN_UNSCRIPTED, NULL, NULL}, {"bgrewriteaof", RUN_UNSCRIPTED, NULL, NULL}, {"bgsave", RUN_UNSCRIPTED, NULL, NULL},
    {"config", RUN_UNSCRIPTED, NULL, NULL}, {"eval", RUN_UNSCRIPTED, NULL, NULL}, {"eval_ro", RUN_UNSCRIPTED, NULL, NULL},
    {"evalsha", RUN_UNSCRIPTED, NULL, NULL}, {"evalsha_ro", RUN_UNSCRIPTED, NULL, NULL}, {"fcall", RUN_UNSCRIPTED, NULL, NULL},
    {"fcall_ro", RUN_UNSCRIPTED, NULL, NULL}, {"function", RUN_UNSCRIPTED, NULL, NULL}, {"latency", RUN_UNSCRIPTED, NULL, NULL},
    {"role", RUN_UNSCRIPTED, NULL, NULL}, {"save", RUN_UNSCRIPTED, NULL, NULL}, {"script", RUN_UNSCRIPTED, NULL, NULL},
    {"subscribe", REFUSE, NULL, NEVER_TOLD}, {"unsubscribe", REFUSE, NULL, NEVER_TOLD}, {"psubscribe", REFUSE, NULL, NEVER_TOLD},
    {"punsubscribe", REFUSE, NULL, NEVER_TOLD}, {"ssubscribe", REFUSE, NULL, NEVER_TOLD}, {"sunsubscribe", REFUSE, NULL, NEVER_TOLD},
    {"monitor", REFUSE, NULL, NO_CONNECTION}, {"sync", REFUSE, NULL, NO_CONNECTION}, {"psync", REFUSE, NULL, NO_CONNECTION},
    {"replconf", REFUSE, NULL, NO_CONNECTION},
    {"watch", REFUSE, NULL, "Redis watches keys for connections alone"}, {"unwatch", REFUSE, NULL, "Redis watches keys for connections alone"},
    {"blpop", REFUSE, NULL, NO_WAITING}, {"brpop", REFUSE, NULL, NO_WAITING}, {"blmove", REFUSE, NULL, NO_WAITING},
    {"brpoplpush", REFUSE, NULL, NO_WAITING}, {"blmpop", REFUSE, NULL, NO_WAITING}, {"bzpopmin", REFUSE, NULL, NO_WAITING},
    {"bzpopmax", REFUSE, NULL, NO_WAITING}, {"bzmpop", REFUSE, NULL, NO_WAITING}, {"wait", REFUSE, NULL, NO_WAITING},
    {"shutdown", REFUSE, NULL, "ask for it over a connection"}, {"debug", REFUSE, NULL, "ask for it over a connection"},
    {"module", REFUSE, NULL, "ask for it over a connection"}, {"failover", REFUSE, NULL, "ask for it over a connection"},
    {"replicaof", REFUSE, NULL, "ask for it over a connection"}, {"slaveof", REFUSE, NULL, "ask for it over a connection"},
    {"sealane.turn", REFUSE, NULL, "it is the module's own"},
};
static const Special ORDINARY = {"", RUN, NULL, NULL};
static const Special *names[NAMES];

static size_t place(const char *name, size_t length) {
    size_t hash = 5381;
    for (size_t n = 0; n < length; n++) hash = hash * 33 + (unsigned char)(name[n] | 0x20);
    return hash % NAMES;
}

static const Special *special(RedisModuleString *name) {
    size_t length;
    const char *bytes = RedisModule_StringPtrLen(name, &length);
    for (size_t at = place(bytes, length); names[at]; at = (at + 1) % NAMES)
        if (is_word(name, names[at]->name)) return names[at];
    return &ORDINARY;
}

/* ---- Users and sessions ---- */

void session_reset(Session *session) {
    RedisModule_Free(session->user);
    RedisModule_Free(session->name);
    session->user = session->name = NULL;
    session->version = 2;
    session->db = 0;
}

bool session_is_plain(const Session *session) {
    return !session->client && !session->user && !session->name && session->version == 2 && session->db == 0;
}

static char *copied(RedisModuleString *text) {
    size_t length;
    const char *bytes = RedisModule_StringPtrLen(text, &length);
    char *copy = RedisModule_Alloc(length + 1);
    memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}

void commands_forget_user(void) {
    if (acting) RedisModule_FreeModuleUser(acting);
    RedisModule_Free(acting_name);
    acting = NULL;
    acting_name = NULL;
    RedisModule_SetContextUser(context, NULL);
}

void commands_look_at_users(void) {
    commands_forget_user();
    bool on = false, nopass = false;
    RedisModuleCallReply *user = RedisModule_Call(context, "ACL", "cc", "GETUSER", "default");
    RedisModuleCallReply *flags = user ? RedisModule_CallReplyArrayElement(user, 1) : NULL;
    for (size_t n = 0; flags && n < RedisModule_CallReplyLength(flags); n++) {
        size_t length;
        const char *flag = RedisModule_CallReplyStringPtr(RedisModule_CallReplyArrayElement(flags, n), &length);
        on |= length == 2 && memcmp(flag, "on", 2) == 0;
        nopass |= length == 6 && memcmp(flag, "nopass", 6) == 0;
    }
    is_open = on && nopass;
    if (user) RedisModule_FreeCallReply(user);
}

/* From now on commands run as this session's user, if it has proven to be one. It is kept for a turn at most: Redis frees users. */
static bool act(const Session *session) {
    if (!session->user && !is_open) return false;
    const char *name = session->user ? session->user : "default";
    if (!acting || strcmp(acting_name, name) != 0) {
        commands_forget_user();
        RedisModuleString *text = RedisModule_CreateString(NULL, name, strlen(name));
        acting = RedisModule_GetModuleUserFromUserName(text);
        RedisModule_FreeString(NULL, text);
        acting_name = acting ? RedisModule_Strdup(name) : NULL;
        RedisModule_SetContextUser(context, acting);
    }
    return acting != NULL;
}

void commands_init(RedisModuleCtx *ctx) {
    context = RedisModule_GetDetachedThreadSafeContext(ctx);
    for (size_t n = 0; n < sizeof SPECIAL / sizeof SPECIAL[0]; n++) {
        size_t at = place(SPECIAL[n].name, strlen(SPECIAL[n].name));
        while (names[at]) at = (at + 1) % NAMES;
        names[at] = &SPECIAL[n];
    }
    commands_look_at_users();
}

/* ---- Replies ---- */

static void error(Run *run, const char *text) {
    bytes_format(run->out, "-%s\r\n", text);
    run->spoiled = true;
}

static void refuse(Run *run, RedisModuleString *what, const char *why) {
    bytes_text(run->out, "-ERR '");
    bytes_quoted(run->out, what);
    bytes_format(run->out, "' is not carried over Sealane: %s\r\n", why);
    counts.refused++;
    run->spoiled = true;
}

static void arity(Run *run) {
    bytes_text(run->out, "-ERR wrong number of arguments for '");
    size_t from = run->out->length;
    bytes_quoted(run->out, run->args.argv[0]);
    for (; from < run->out->length; from++) run->out->bytes[from] = (char)tolower((unsigned char)run->out->bytes[from]);
    bytes_text(run->out, "' command\r\n");
    run->spoiled = true;
}

static void unknown(Run *run) {
    bytes_text(run->out, "-ERR unknown command '");
    bytes_quoted(run->out, run->args.argv[0]);
    bytes_text(run->out, "', with args beginning with: ");
    for (size_t n = 1; n < run->args.argc && n < 16; n++) {
        bytes_text(run->out, "'");
        bytes_quoted(run->out, run->args.argv[n]);
        bytes_text(run->out, "' ");
    }
    bytes_text(run->out, "\r\n");
    run->spoiled = true;
}

static void bulk(Bytes *out, const char *text) {
    bytes_format(out, "$%zu\r\n", strlen(text));
    bytes_text(out, text);
    bytes_text(out, "\r\n");
}

/* A call of a command. Few and short arguments are handed over as bytes: of a string that is ours, too, Redis would not make a number where
 * it stores one. */
static RedisModuleCallReply *call(const char *name, const char *flags, RedisModuleString **argv, size_t argc) {
    enum { FEW = 8, SHORT = 44 };
    const char *bytes[FEW] = {NULL};
    size_t lengths[FEW] = {0}, n = 0;
    char format[FEW + 16] = "bbbbbbbb";
    for (; n < argc && n < FEW; n++) {
        bytes[n] = RedisModule_StringPtrLen(argv[n], &lengths[n]);
        if (lengths[n] > SHORT) break;
    }
    errno = 0;
    if (n < argc) {
        snprintf(format, sizeof format, "v%s", flags);
        return RedisModule_Call(context, name, format, argv, argc);
    }
    snprintf(format + argc, sizeof format - argc, "%s", flags);
    /* What the format does not name is not looked at. */
    return RedisModule_Call(context, name, format, bytes[0], lengths[0], bytes[1], lengths[1], bytes[2], lengths[2], bytes[3], lengths[3], bytes[4],
                            lengths[4], bytes[5], lengths[5], bytes[6], lengths[6], bytes[7], lengths[7]);
}

/* Asks Redis; whether it did it. */
static bool ask(Run *run, const char *name, const char *flags, RedisModuleString **argv, size_t argc) {
    RedisModule_SelectDb(context, run->session->db);
    RedisModuleCallReply *reply = call(name, flags, argv, argc);
    bool done = false;
    if (reply) {
        size_t length;
        const char *bytes = RedisModule_CallReplyProto(reply, &length);
        done = length > 0 && bytes[0] != '-';
        if (!done && errno == EACCES) {
            bytes_text(run->out, "-NOPERM ");
            bytes += length > 5 ? 5 : 0; /* "-ERR " */
            length -= length > 5 ? 5 : 0;
        }
        bytes_add(run->out, bytes, length);
        RedisModule_FreeCallReply(reply);
    } else {
        bytes_format(run->out, "-ERR Redis did not run it: %s\r\n", strerror(errno));
    }
    return done;
}

/* ---- Commands about the session ---- */

/* Redis judges the password, and writes down a wrong one; the user is ours to remember. */
static bool authenticate(Run *run, RedisModuleString **argv, size_t argc) {
    size_t before = run->out->length;
    if (!ask(run, "AUTH", "E", argv, argc)) return false;
    run->out->length = before;
    char *user = argc == 1 ? RedisModule_Strdup("default") : copied(argv[0]);
    RedisModule_Free(run->session->user);
    run->session->user = user;
    commands_look_at_users();
    return true;
}

static void auth(Run *run) {
    if (run->args.argc < 2) return arity(run);
    if (authenticate(run, run->args.argv + 1, run->args.argc - 1)) bytes_text(run->out, "+OK\r\n");
}

static void select_db(Run *run) {
    if (run->args.argc != 2) return arity(run);
    long long db = 0;
    if (ask(run, "SELECT", "SEC", run->args.argv + 1, 1) && RedisModule_StringToLongLong(run->args.argv[1], &db) == REDISMODULE_OK)
        run->session->db = (int)db;
}

static bool set_name(Run *run, RedisModuleString *name) {
    RedisModuleString *argv[2] = {RedisModule_CreateString(NULL, "SETNAME", 7), name};
    size_t before = run->out->length, length;
    bool done = ask(run, "CLIENT", "E", argv, 2);
    RedisModule_FreeString(NULL, argv[0]);
    if (!done) return false;
    run->out->length = before;
    RedisModule_Free(run->session->name);
    RedisModule_StringPtrLen(name, &length);
    run->session->name = length ? copied(name) : NULL;
    return true;
}

static void hello(Run *run) {
    Args *args = &run->args;
    long long version = run->session->version;
    if (args->argc > 1) {
        if (RedisModule_StringToLongLong(args->argv[1], &version) != REDISMODULE_OK)
            return error(run, "ERR Protocol version is not an integer or out of range");
        if (version < 2 || version > 3) return error(run, "NOPROTO unsupported protocol version");
    }
    for (size_t n = 2; n < args->argc; n++) {
        size_t more = args->argc - 1 - n;
        if (is_word(args->argv[n], "auth") && more >= 2) {
            if (!authenticate(run, args->argv + n + 1, 2)) return;
            n += 2;
        } else if (is_word(args->argv[n], "setname") && more >= 1) {
            if (!set_name(run, args->argv[++n])) return;
        } else {
            bytes_text(run->out, "-ERR Syntax error in HELLO option '");
            bytes_quoted(run->out, args->argv[n]);
            return bytes_text(run->out, "'\r\n");
        }
    }
    if (!act(run->session))
        return error(run, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can "
                          "be used to authenticate the client and select the RESP protocol version at the same time");
    run->session->version = (int)version;
    if (run->session->client == 0) run->session->client = ++clients;
    int server = RedisModule_GetServerVersion();
    bytes_text(run->out, version == 3 ? "%7\r\n" : "*14\r\n");
    bulk(run->out, "server"), bulk(run->out, "redis"), bulk(run->out, "version");
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", server >> 16, server >> 8 & 255, server & 255);
    bulk(run->out, text), bulk(run->out, "proto");
    bytes_format(run->out, ":%lld\r\n", version);
    bulk(run->out, "id");
    bytes_format(run->out, ":%llu\r\n", (unsigned long long)run->session->client);
    bulk(run->out, "mode"), bulk(run->out, "standalone"), bulk(run->out, "role");
    bulk(run->out, RedisModule_GetContextFlags(context) & REDISMODULE_CTX_FLAGS_MASTER ? "master" : "replica");
    bulk(run->out, "modules");
    RedisModuleString *list = RedisModule_CreateString(NULL, "LIST", 4);
    ask(run, "MODULE", version == 3 ? "E3" : "E", &list, 1);
    RedisModule_FreeString(NULL, list);
}

/* Of CLIENT, what is about this session is answered here, and what is about others by Redis. */
static void client(Run *run) {
    Args *args = &run->args;
    if (args->argc < 2) return arity(run);
    RedisModuleString *what = args->argv[1];
    if (is_word(what, "setname") && args->argc == 3) {
        if (set_name(run, args->argv[2])) bytes_text(run->out, "+OK\r\n");
    } else if (is_word(what, "getname") && args->argc == 2) {
        if (run->session->name)
            bulk(run->out, run->session->name);
        else
            bytes_text(run->out, run->session->version == 3 ? "_\r\n" : "$-1\r\n");
    } else if (is_word(what, "id") && args->argc == 2) {
        if (run->session->client == 0) run->session->client = ++clients;
        bytes_format(run->out, ":%llu\r\n", (unsigned long long)run->session->client);
    } else if (is_word(what, "list") || is_word(what, "kill") || is_word(what, "pause") || is_word(what, "unpause") ||
               is_word(what, "unblock") || is_word(what, "help")) {
        ask(run, "CLIENT", run->session->version == 3 ? "EC3" : "EC", args->argv + 1, args->argc - 1);
    } else {
        refuse(run, what, NO_CONNECTION);
    }
}

static void drop_queued(Run *run) {
    for (size_t n = 0; n < run->queued_count; n++) args_free(&run->queued[n]);
    run->queued_count = 0;
    run->multi = false;
}

static void multi(Run *run) {
    if (run->args.argc != 1) return arity(run);
    if (run->multi) return bytes_text(run->out, "-ERR MULTI calls can not be nested\r\n"); /* which spoils nothing */
    run->multi = true;
    run->spoiled = false;
    bytes_text(run->out, "+OK\r\n");
}

static void discard(Run *run) {
    if (!run->multi) return error(run, "ERR DISCARD without MULTI");
    drop_queued(run);
    bytes_text(run->out, "+OK\r\n");
}

static void quit(Run *run) {
    run->over = true;
    bytes_text(run->out, "+OK\r\n");
}

static void reset(Run *run) {
    drop_queued(run);
    session_reset(run->session);
    bytes_text(run->out, "+RESET\r\n");
}

/* ---- Running ---- */

/* A read that would wait gets nothing at once from a module's context: better an error than a wrong answer. */
static bool would_wait(const Args *args) {
    if (!is_word(args->argv[0], "xread") && !is_word(args->argv[0], "xreadgroup")) return false;
    for (size_t n = 1; n < args->argc && !is_word(args->argv[n], "streams"); n++)
        if (is_word(args->argv[n], "block")) return true;
    return false;
}

static void run_one(Run *run, enum how how) {
    size_t length;
    const char *name = RedisModule_StringPtrLen(run->args.argv[0], &length);
    if (memchr(name, 0, length)) return unknown(run);
    static const char *FORMATS[2][2] = {{"!EMSC", "!EMSC3"}, {"!EMC", "!EMC3"}};
    counts.commands++;
    ask(run, name, FORMATS[how == RUN_UNSCRIPTED][run->session->version == 3], run->args.argv + 1, run->args.argc - 1);
    if (is_word(run->args.argv[0], "acl") || is_word(run->args.argv[0], "config")) commands_look_at_users();
}

/* Whether Redis would queue it: it knows the command, with so many arguments, and the user may run it. */
static bool may_queue(Run *run) {
    RedisModuleString *argv[2] = {RedisModule_CreateString(NULL, "INFO", 4), run->args.argv[0]};
    RedisModuleCallReply *reply = RedisModule_Call(context, "COMMAND", "v", argv, (size_t)2);
    RedisModule_FreeString(NULL, argv[0]);
    RedisModuleCallReply *info = reply ? RedisModule_CallReplyArrayElement(reply, 0) : NULL;
    long long wanted = 0, given = (long long)run->args.argc;
    if (info && RedisModule_CallReplyType(info) == REDISMODULE_REPLY_ARRAY)
        wanted = RedisModule_CallReplyInteger(RedisModule_CallReplyArrayElement(info, 1));
    if (reply) RedisModule_FreeCallReply(reply);
    if (wanted == 0)
        unknown(run);
    else if (wanted > 0 ? given != wanted : given < -wanted)
        arity(run);
    else if (RedisModule_ACLCheckCommandPermissions(acting, run->args.argv, (int)given) != REDISMODULE_OK)
        error(run, "NOPERM this user has no permissions to run this command or to access its keys");
    else
        return true;
    return false;
}

static void queue(Run *run, const Special *found) {
    if (found->how == OWN && found->answer != select_db) {
        refuse(run, run->args.argv[0], "it stands in no transaction here");
        return;
    }
    if (!may_queue(run)) return;
    if (run->queued_count == QUEUED_MAX) return error(run, "ERR the transaction is too long");
    if (run->queued_count == run->queued_room) {
        run->queued_room = run->queued_room ? run->queued_room * 2 : 8;
        run->queued = RedisModule_Realloc(run->queued, run->queued_room * sizeof *run->queued);
    }
    run->queued[run->queued_count++] = run->args;
    run->args = (Args){NULL, 0, 0};
    bytes_text(run->out, "+QUEUED\r\n");
}

/* Nothing runs between two commands of one message, so there is nothing to be done for a transaction but to queue it. */
static void exec(Run *run) {
    if (!run->multi) return error(run, "ERR EXEC without MULTI");
    if (run->spoiled) {
        drop_queued(run);
        return error(run, "EXECABORT Transaction discarded because of previous errors.");
    }
    run->multi = false;
    bytes_format(run->out, "*%zu\r\n", run->queued_count);
    Args whole = run->args;
    for (size_t n = 0; n < run->queued_count; n++) {
        run->args = run->queued[n];
        const Special *found = special(run->args.argv[0]);
        if (!act(run->session))
            error(run, "NOAUTH Authentication required.");
        else if (found->how == OWN)
            found->answer(run);
        else
            run_one(run, found->how);
    }
    run->args = whole;
    drop_queued(run);
}

static void one_command(Run *run) {
    const Special *found = special(run->args.argv[0]);
    bool opens = found->answer == auth || found->answer == hello || found->answer == quit || found->answer == reset;
    if (!opens && !act(run->session)) return error(run, "NOAUTH Authentication required.");
    if (found->how == REFUSE) return refuse(run, run->args.argv[0], found->why);
    if (would_wait(&run->args)) return refuse(run, run->args.argv[0], NO_WAITING);
    bool ends = found->answer == multi || found->answer == exec || found->answer == discard || found->answer == quit || found->answer == reset;
    if (run->multi && !ends) return queue(run, found);
    if (found->how == OWN) {
        counts.commands++;
        return found->answer(run);
    }
    run_one(run, found->how);
}

void commands_run(Session *session, const uint8_t *message, size_t length, Bytes *out) {
    Run run = {.session = session, .out = out};
    const uint8_t *at = message, *end = message + length;
    const char *why = "";
    while (!run.over && at < end) {
        size_t before = out->length;
        switch (resp_parse(&at, end, &run.args, &why)) {
        case PARSED_COMMAND: one_command(&run); break;
        case PARSED_NOTHING: break;
        case PARSED_INCOMPLETE: why = "Protocol error: the message ends within a command"; /* fall through */
        case PARSED_WRONG:
            bytes_format(out, "-ERR %s\r\n", why);
            run.over = true;
        }
        if (out->length > REPLIES_MAX) {
            out->length = before;
            bytes_text(out, "-ERR the replies are longer than a message may be\r\n");
            break;
        }
    }
    drop_queued(&run);
    RedisModule_Free(run.queued);
    args_free(&run.args);
}

void commands_refuse(const char *error, const uint8_t *message, size_t length, Bytes *out) {
    Args args = {NULL, 0, 0};
    const uint8_t *at = message, *end = message + length;
    const char *why;
    for (enum parsed parsed = PARSED_NOTHING; at < end && parsed < PARSED_INCOMPLETE;) {
        parsed = resp_parse(&at, end, &args, &why);
        if (parsed != PARSED_NOTHING) bytes_format(out, "-%s\r\n", error);
    }
    args_free(&args);
}
